// Package webhook serves admission reviews to the API server of a cluster over TLS, and
// keeps our certificate authority in the configurations that name it. The server puts
// reviewers behind it, one a path; it must never judge by itself, and never remove the
// authority of another replica that may still serve.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// maxBody bounds a review: an object and the one that it replaces, of 3 MiB each at most.
	maxBody = 8 << 20
	// maxReviews bounds the reviews that are read or judged at a time; a further one is
	// answered 503, which the API server takes for a webhook that failed.
	maxReviews = 32
	// reviewTime bounds one review; the API server waits for less.
	reviewTime = 20 * time.Second
	idleTime   = 2 * time.Minute
	headTime   = 5 * time.Second
	maxHead    = 16 << 10
	// stopTime bounds how long Serve waits, once it is asked to end, for open reviews.
	stopTime = 5 * time.Second
)

// Reviewer answers one request. The answer's UID is set by who calls it.
type Reviewer func(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// Config configures a Server. Everything is required.
type Config struct {
	TLS       *tls.Config         // of the server's side
	Reviewers map[string]Reviewer // by path, "/validate"
	Log       *slog.Logger
}

// Server answers reviews.
type Server struct {
	config Config
	slots  chan struct{}
}

// New returns a Server.
func New(config Config) (*Server, error) {
	if config.TLS == nil || len(config.Reviewers) == 0 || config.Log == nil {
		return nil, errors.New("webhook: a field of Config is missing")
	}
	return &Server{config: config, slots: make(chan struct{}, maxReviews)}, nil
}

// Serve answers what comes in until ctx ends, and waits a moment for what is open then.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s, TLSConfig: s.config.TLS, ReadHeaderTimeout: headTime, ReadTimeout: reviewTime, WriteTimeout: reviewTime + headTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHead, ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if server.Shutdown(late) != nil {
			_ = server.Close()
		}
	})
	err := server.ServeTLS(listener, "", "")
	if !release() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the webhook: %w", err)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	review := s.config.Reviewers[r.URL.Path]
	switch {
	case review == nil:
		http.Error(w, "no webhook of Sluice is here", http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "reviews are posted", http.StatusMethodNotAllowed)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "a review is application/json", http.StatusUnsupportedMediaType)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		http.Error(w, fmt.Sprintf("more than %d reviews at a time", maxReviews), http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		code := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "read the review: "+err.Error(), code)
		return
	}
	request, err := readReview(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := review(r.Context(), request)
	answer.UID = request.UID
	if !answer.Allowed {
		s.config.Log.Debug("refused by a webhook", "path", r.URL.Path, "user", request.UserInfo.Username,
			"kind", request.Kind.Kind, "namespace", request.Namespace, "name", request.Name)
	}
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(&admissionv1.AdmissionReview{TypeMeta: reviewType, Response: answer}); err != nil {
		http.Error(w, "write the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out.Bytes()) // whoever asked may have gone
}

var reviewType = metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}

// readReview reads a review. Objects in it stay bytes.
func readReview(body []byte) (*admissionv1.AdmissionRequest, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("read the review: %w", err)
	}
	switch {
	case review.TypeMeta != reviewType:
		return nil, fmt.Errorf("%q of %q is not a review of admission.k8s.io/v1", review.Kind, review.APIVersion)
	case review.Request == nil || review.Request.UID == "":
		return nil, errors.New("the review has no request, or one without uid")
	}
	return review.Request, nil
}
