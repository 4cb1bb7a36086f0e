package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"sluice.dev/sluice/internal/control/authority"
)

var quiet = slog.New(slog.DiscardHandler)

const review = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"7","operation":"CREATE","object":{"a":1}}}`

func serverOf(t testing.TB, reviewer Reviewer) *Server {
	t.Helper()
	s, err := New(Config{TLS: new(tls.Config), Reviewers: map[string]Reviewer{"/validate": reviewer}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func post(s *Server, path, contentType, body string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, request)
	return answer
}

func allow(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

func TestAReviewIsAnsweredUnderItsUID(t *testing.T) {
	s := serverOf(t, func(_ context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{string(request.Object.Raw)}}
	})
	answer := post(s, "/validate", "application/json; charset=utf-8", review)
	var got admissionv1.AdmissionReview
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != http.StatusOK {
		t.Fatalf("%d %v %s", answer.Code, err, answer.Body)
	}
	if got.TypeMeta != reviewType || got.Response.UID != "7" || !got.Response.Allowed || got.Response.Warnings[0] != `{"a":1}` {
		t.Errorf("%s", answer.Body)
	}
}

func TestWhatIsNotAReviewIsRefusedBeforeItIsJudged(t *testing.T) {
	s := serverOf(t, func(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		t.Error("it was judged")
		return nil
	})
	for _, c := range []struct {
		path, contentType, body string
		code                    int
	}{
		{"/", "application/json", review, http.StatusNotFound},
		{"/validate/", "application/json", review, http.StatusNotFound},
		{"/validate", "application/yaml", review, http.StatusUnsupportedMediaType},
		{"/validate", "", review, http.StatusUnsupportedMediaType},
		{"/validate", "application/json", "", http.StatusBadRequest},
		{"/validate", "application/json", review[:40], http.StatusBadRequest},
		{"/validate", "application/json", strings.Replace(review, "/v1", "/v1beta1", 1), http.StatusBadRequest},
		{"/validate", "application/json", strings.Replace(review, `"uid":"7",`, "", 1), http.StatusBadRequest},
		{"/validate", "application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, http.StatusBadRequest},
		{"/validate", "application/json", strings.Replace(review, "1}", `"`+strings.Repeat("x", maxBody)+`"}`, 1), http.StatusRequestEntityTooLarge},
	} {
		if answer := post(s, c.path, c.contentType, c.body); answer.Code != c.code {
			t.Errorf("%s %s %.40q: %d, want %d", c.path, c.contentType, c.body, answer.Code, c.code)
		}
	}
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/validate", nil))
	if answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", answer.Code)
	}
}

func TestReviewsAtATimeAreBounded(t *testing.T) {
	open, release := make(chan struct{}), make(chan struct{})
	s := serverOf(t, func(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		open <- struct{}{}
		<-release
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	codes := make(chan int)
	for range maxReviews {
		go func() { codes <- post(s, "/validate", "application/json", review).Code }()
		<-open
	}
	if answer := post(s, "/validate", "application/json", review); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", answer.Code)
	}
	close(release)
	for range maxReviews {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("%d", code)
		}
	}
}

func TestItIsServedOverTLSUntilItIsEnded(t *testing.T) {
	known, err := authority.Open(filepath.Join(t.TempDir(), "ca.pem"), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{TLS: known.TLS(), Reviewers: map[string]Reviewer{"/validate": allow}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, listener) }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(known.CA())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	response, err := client.Post("https://"+listener.Addr().String()+"/validate", "application/json", strings.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !bytes.Contains(body, []byte(`"allowed":true`)) {
		t.Errorf("%v %s", err, body)
	}
	if _, err := http.Get("https://" + listener.Addr().String() + "/validate"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("whoever does not know the authority: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

func TestAMissingFieldIsAnError(t *testing.T) {
	if _, err := New(Config{Log: quiet}); err == nil {
		t.Error("it was made")
	}
}

// A body is answered with a review or refused; it never ends the server.
func FuzzReadReview(f *testing.F) {
	f.Add([]byte(review))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`))
	f.Add([]byte(`{"request":{"uid":7}}`))
	f.Add([]byte(`[]`))
	s := serverOf(f, allow)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := post(s, "/validate", "application/json", string(body))
		request, err := readReview(body)
		switch {
		case (err == nil) != (answer.Code == http.StatusOK):
			t.Fatalf("%d, %v", answer.Code, err)
		case err == nil && request.UID == "":
			t.Fatal("a review without uid")
		}
		if answer.Code == http.StatusOK {
			var got admissionv1.AdmissionReview
			if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || got.Response == nil || got.Response.UID != request.UID {
				t.Fatalf("%v %s", err, answer.Body)
			}
		}
	})
}

var errTest = errors.New("the API server is away")
