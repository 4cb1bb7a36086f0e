package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// HelloTimeout is how long a connection may be silent before its hello.
	HelloTimeout = 5 * time.Second
	// DefaultMaxAttachments bounds how many connections are held at once, hellos
	// not yet said among them. Each attachment holds about 6 descriptors.
	DefaultMaxAttachments = 1024
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	// Check says whether the peer may attach at all; peer.Check.
	Check func(*net.UnixConn) error
	// Handle serves one attachment until its Done, or ends it by returning. It
	// calls Welcome or Refuse first. The capture is closed after it.
	Handle func(context.Context, *Attachment)
	// MaxAttachments is DefaultMaxAttachments where it is 0. One above it is
	// refused with the reason.
	MaxAttachments int
	Log            *slog.Logger
}

// Server takes sandboxes.
type Server struct {
	config ServerConfig
	slots  chan struct{}
}

// NewServer returns a server; Serve makes it work.
func NewServer(config ServerConfig) *Server {
	if config.MaxAttachments <= 0 {
		config.MaxAttachments = DefaultMaxAttachments
	}
	return &Server{config: config, slots: make(chan struct{}, config.MaxAttachments)}
}

// Listen makes attach.sock, which only its owner may connect to. A socket that a
// dead server left is replaced; one that is served is an error.
func Listen(path string) (*net.UnixListener, error) {
	address := &net.UnixAddr{Name: path, Net: "unixpacket"}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		conn, err := net.DialUnix(address.Net, nil, address)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("listen on %s: %w", path, unix.EADDRINUSE)
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			os.Remove(path)
		}
	}
	// Made under a name that nobody waits for, then renamed: nobody connects
	// before its mode is right.
	temporary := &net.UnixAddr{Name: filepath.Join(filepath.Dir(path), fmt.Sprintf(".attach-%d", os.Getpid())), Net: address.Net}
	listener, err := net.ListenUnix(address.Net, temporary)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	if err = os.Chmod(temporary.Name, 0o600); err == nil {
		err = os.Rename(temporary.Name, path)
	}
	if err != nil {
		listener.Close()
		os.Remove(temporary.Name)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, nil
}

// Serve accepts until the context ends or the listener fails, then ends every
// attachment and waits for its handler. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	var attachments sync.WaitGroup
	defer attachments.Wait()
	defer cancel()
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.AcceptUnix()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
			s.config.Log.Warn("attach: accept", "error", err)
			select { // out of descriptors: those that end give some back
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("attach: accept: %w", err)
		}
		select {
		case s.slots <- struct{}{}:
			attachments.Go(func() {
				defer func() { <-s.slots }()
				s.serveConn(ctx, conn)
			})
		default:
			refuse(conn, fmt.Sprintf("%d sandboxes are attached, which is the most", s.config.MaxAttachments))
			conn.Close()
		}
	}
}

// serveConn is the life of one connection.
func (s *Server) serveConn(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := s.config.Check(conn); err != nil {
		s.config.Log.Warn("attach refused", "error", err)
		return // a peer that may not attach gets no answer
	}
	attachment, err := receive(conn)
	if err != nil {
		s.config.Log.Warn("attach refused", "error", err)
		refuse(conn, err.Error())
		return
	}
	defer attachment.Capture.Close()
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		attachment.watch()
		cancel()
	}()
	s.config.Handle(ctx, attachment)
	cancel()
	conn.Close()
	<-watched
}
