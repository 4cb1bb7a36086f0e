package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"sluice.dev/sluice/internal/format"
)

const (
	// ExternalPrefix begins every key in an etcd that may hold what is others' too.
	ExternalPrefix = "/sluice/"
	// externalRules begins the keys of the rules.
	externalRules = ExternalPrefix + "rules"
	// externalFormat is the key that says of what format the rules are, as storeFile does in
	// a data folder.
	externalFormat = ExternalPrefix + "format"
	// externalDial bounds the connection to a member of etcd, externalStart one question when
	// the server starts.
	externalDial  = 5 * time.Second
	externalStart = 15 * time.Second
	// maxMembers bounds the members that are named.
	maxMembers = 16
)

// External is an etcd that runs elsewhere and keeps the rules, for several servers.
type External struct {
	Servers                   []string // URLs of its members
	CAFile, CertFile, KeyFile string   // PEM; "" for none
}

// Check says what is wrong with it, before anything is dialled.
func (e *External) Check() error {
	if len(e.Servers) == 0 || len(e.Servers) > maxMembers {
		return fmt.Errorf("%d members of etcd are named; name 1 to %d", len(e.Servers), maxMembers)
	}
	secure := 0
	for _, text := range e.Servers {
		parsed, err := url.Parse(text)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Port() == "" || strings.Trim(parsed.Path, "/") != "" || parsed.User != nil {
			return fmt.Errorf("%q is not the URL of a member of etcd, as https://192.0.2.1:2379 is one", text)
		}
		if parsed.Scheme == "https" {
			secure++
		}
	}
	switch {
	case secure != 0 && secure != len(e.Servers):
		return errors.New("some members of etcd are named with https and some with http: name all in one way")
	case secure == 0 && e.CAFile+e.CertFile+e.KeyFile != "":
		return errors.New("a certificate makes no sense with members of etcd that are named with http: use https")
	case (e.CertFile == "") != (e.KeyFile == ""):
		return errors.New("the certificate for etcd and its key belong together: name both files")
	}
	return nil
}

// Client returns a client of it.
func (e *External) Client(log *slog.Logger) (*clientv3.Client, error) {
	config := clientv3.Config{
		Endpoints: e.Servers, DialTimeout: externalDial, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		Logger: zapToSlog(log),
	}
	if strings.HasPrefix(e.Servers[0], "https:") {
		secure, err := transport.TLSInfo{TrustedCAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile}.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read the certificates for etcd: %w", err)
		}
		config.TLS = secure
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("reach etcd: %w", err)
	}
	return client, nil
}

// externalStore is the storage of rules in an etcd elsewhere.
type externalStore struct{ external *External }

// openExternal refuses rules that a later release wrote, and notes the format of ours.
func openExternal(ctx context.Context, external *External, log *slog.Logger) (*externalStore, error) {
	if err := external.Check(); err != nil {
		return nil, err
	}
	client, err := external.Client(log)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, externalStart)
	defer cancel()
	held, err := client.Get(ctx, externalFormat)
	if err != nil {
		return nil, fmt.Errorf("read the format of the store from etcd at %s: %w", strings.Join(external.Servers, ", "), err)
	}
	said, err := json.Marshal(format.Version{Format: storeFormat})
	if err != nil {
		return nil, err
	}
	var before int64 // revision of the key; 0 where there is none
	if len(held.Kvs) > 0 {
		if err := stores.CheckJSON(held.Kvs[0].Value); err != nil {
			return nil, fmt.Errorf("etcd at %s: %w; nothing was changed", strings.Join(external.Servers, ", "), err)
		}
		before = held.Kvs[0].ModRevision
		if string(held.Kvs[0].Value) == string(said) {
			return &externalStore{external}, nil
		}
	}
	done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(externalFormat), "=", before)).
		Then(clientv3.OpPut(externalFormat, string(said))).Commit()
	if err != nil {
		return nil, fmt.Errorf("note the format of the store in etcd: %w", err)
	}
	if !done.Succeeded {
		return openExternal(ctx, external, log) // another server noted it meanwhile
	}
	return &externalStore{external}, nil
}

func (e *externalStore) configure(storage *storagebackend.Config) {
	storage.Prefix = externalRules
	storage.Transport.ServerList = e.external.Servers
	storage.Transport.TrustedCAFile, storage.Transport.CertFile, storage.Transport.KeyFile = e.external.CAFile, e.external.CertFile, e.external.KeyFile
}

// Failed never delivers: an etcd that is away comes back, or another member answers.
func (e *externalStore) Failed() <-chan error { return nil }

func (e *externalStore) Close() {}
