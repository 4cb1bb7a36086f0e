package inspect

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"sluice.dev/sluice/internal/control/history"
)

// History is what was changed of one object, oldest first.
type History struct {
	Format  int             `json:"format"`
	Entries []history.Entry `json:"entries"`
}

// CredentialRequest asks for a client certificate for the API over TCP.
type CredentialRequest struct {
	Format   int           `json:"format"`
	Name     string        `json:"name"` // who it is for, in the log and the history
	Role     string        `json:"role"`
	Lifetime time.Duration `json:"lifetime"`
	Request  string        `json:"request"` // of a certificate (PKCS #10), in PEM
}

// Credential is what a kubeconfig holds, but for the private key.
type Credential struct {
	Format      int       `json:"format"`
	Address     string    `json:"address"`    // on which the API is served
	ServerName  string    `json:"serverName"` // in the certificate of the server
	CA          string    `json:"ca"`         // in PEM
	Certificate string    `json:"certificate"`
	Expires     time.Time `json:"expires"`
}

// maxCredentialRequest bounds the body of a CredentialRequest, in bytes.
const maxCredentialRequest = 32 << 10

// NewHistoryHandler answers HistoryPath by what of returns.
func NewHistoryHandler(of func(history.Key) []history.Entry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		key := history.Key{Resource: query.Get("resource"), Namespace: query.Get("namespace"), Name: query.Get("name")}
		switch {
		case r.Method != http.MethodGet:
			writeError(w, failure(http.StatusMethodNotAllowed, "%s %s is not served", r.Method, r.URL.Path))
		case key.Resource == "" || key.Name == "":
			writeError(w, failure(http.StatusBadRequest, "resource and name are required, as in resource=egressrules.config.istio.io"))
		default:
			writeJSON(w, History{Format, of(key)})
		}
	})
}

// NewCredentialHandler answers CredentialPath by what issue returns, whose errors are
// about the request.
func NewCredentialHandler(issue func(CredentialRequest) (Credential, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			writeError(w, failure(http.StatusMethodNotAllowed, "%s %s is not served", r.Method, r.URL.Path))
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCredentialRequest))
		if err == nil {
			err = Answers.CheckJSON(body)
		}
		var request CredentialRequest
		if err == nil {
			err = json.Unmarshal(body, &request)
		}
		if err != nil {
			writeError(w, failure(http.StatusBadRequest, "read the request: %v", err))
			return
		}
		credential, err := issue(request)
		if err != nil {
			writeError(w, failure(http.StatusUnprocessableEntity, "%v", err))
			return
		}
		credential.Format = Format
		writeJSON(w, credential)
	})
}
