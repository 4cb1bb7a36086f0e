package kubeapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// principal is who is at the other end of a connection.
type principal uint8

const (
	nobody   principal = iota
	itself             // this very process, through memory
	sameUser           // an authenticated peer on api.sock: the administrator
	remote             // somebody on the TCP port, whose certificate says who
)

// roleAdmin is the role of whoever is let in on api.sock.
const roleAdmin = "admin"

// caller is who sent a request. Of a remote one the front finds the name and role,
// before anything else looks at the request.
type caller struct {
	principal
	name string
	role string
	from string // where the connection comes from
}

// callerKey is the context key under which a request carries its caller.
type callerKey struct{}

// callerOf returns who sent a request; nobody where that is not known.
func callerOf(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who
}

// withCaller is the ConnContext of the HTTP servers.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	known, ok := conn.(*knownConn)
	if !ok {
		return ctx
	}
	who := caller{principal: known.who}
	switch known.who {
	case itself:
		who.name = user.APIServerUser
	case sameUser:
		who.name, who.role, who.from = "sluice:admin", roleAdmin, "api.sock"
		if known.pid != 0 {
			who.from += " (pid " + strconv.Itoa(known.pid) + ")"
		}
	case remote:
		who.from = conn.RemoteAddr().String()
	}
	return context.WithValue(ctx, callerKey{}, who)
}

// authenticate names the user of a request for Kubernetes' handlers.
func authenticate(r *http.Request) (*authenticator.Response, bool, error) {
	who := callerOf(r.Context())
	info := &user.DefaultInfo{Name: who.name, Groups: []string{user.AllAuthenticated}}
	switch {
	case who.principal == itself, who.principal == sameUser:
		info.Groups = append(info.Groups, user.SystemPrivilegedGroup)
	case who.principal == remote && who.role != "":
		info.Groups = append(info.Groups, rolePrefix+who.role)
	default:
		return nil, false, errors.New("the connection's peer is not known")
	}
	return &authenticator.Response{User: info}, true, nil
}
