package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// StatusError is a refusal of the server, in the words of the Kubernetes API.
type StatusError struct {
	Code    int    // of HTTP
	Reason  string // "AlreadyExists", "NotFound", "Conflict", "Invalid", ...
	Message string // for people
}

func (e *StatusError) Error() string { return e.Message }

// statusError reads a refusal. A body that is no Status is reported as it is, cut to
// one line.
func statusError(code int, body []byte) error {
	var status struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
		Reason  string `json:"reason"`
		Error   string `json:"error"` // of what is served below /sluice/
	}
	if json.Unmarshal(body, &status) == nil {
		switch {
		case status.Kind == "Status" && status.Message != "":
			return &StatusError{Code: code, Reason: status.Reason, Message: status.Message}
		case status.Error != "":
			return &StatusError{Code: code, Message: status.Error}
		}
	}
	const bound = 200
	text, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if len(text) > bound {
		text = text[:bound]
	}
	if text == "" {
		text = http.StatusText(code)
	}
	return &StatusError{Code: code, Message: fmt.Sprintf("the server answered %d: %q", code, text)}
}

// IsNotFound reports whether an error says that an object is not there.
func IsNotFound(err error) bool { return hasReason(err, "NotFound") }

// IsAlreadyExists reports whether an error says that an object is there already.
func IsAlreadyExists(err error) bool { return hasReason(err, "AlreadyExists") }

func isConflict(err error) bool { return hasReason(err, "Conflict") }

func hasReason(err error, reason string) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Reason == reason
}
