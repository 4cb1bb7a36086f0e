package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// isbn is the book that v2 asks the external service about.
const isbn = "0486424618"

type detailsConfig struct {
	External bool // v2: ask the external book service
	Plain    bool // WITH_ISTIO: plain HTTP to port 443, the mesh does TLS
	client   *http.Client
	host     string // of the external service; www.googleapis.com where empty
}

type book struct {
	ID        int    `json:"id"`
	Author    string `json:"author"`
	Year      any    `json:"year"` // a number in v1, what the service says in v2
	Type      string `json:"type"`
	Pages     int    `json:"pages"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	ISBN10    string `json:"ISBN-10"`
	ISBN13    string `json:"ISBN-13"`
}

// newDetails serves the details of a book. Whatever fails is status 400 with the
// error, as in the original.
func newDetails(c detailsConfig) http.Handler {
	if c.client == nil {
		// The connection is made anew where it was closed under us; nothing is kept
		// between two requests for longer than the rule that allowed it may live.
		c.client = &http.Client{Transport: &http.Transport{
			MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 5 * time.Second,
		}}
	}
	if c.host == "" {
		c.host = "www.googleapis.com"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "Details is healthy"})
	})
	mux.HandleFunc("GET /details/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "please provide numeric product id"})
			return
		}
		b := book{ID: id, Author: "William Shakespeare", Year: 1595, Type: "paperback", Pages: 200,
			Publisher: "PublisherA", Language: "English", ISBN10: "1234567890", ISBN13: "123-1234567890"}
		if c.External {
			if b, err = askBookService(r, c, id); err != nil {
				writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
				return
			}
		}
		writeJSON(w, http.StatusOK, b)
	})
	return mux
}

// askBookService asks Google Books, by TLS or, with Plain, by HTTP on port 443.
func askBookService(r *http.Request, c detailsConfig, id int) (book, error) {
	url, host := "https://"+c.host, ""
	if c.Plain {
		url, host = "http://"+c.host+":443", c.host+":443"
	}
	status, body, err := fetch(r.Context(), c.client, url+"/books/v1/volumes?q=isbn:"+isbn, host, forwarded(r, false), 5*time.Second)
	if err != nil {
		return book{}, err
	}
	if status != http.StatusOK {
		text := strings.TrimSpace(string(body))
		if len(text) > 300 {
			text = text[:300]
		}
		return book{}, fmt.Errorf("the book service answered %d: %s", status, text)
	}
	return readVolume(body, id)
}

// readVolume reads the first volume of the service's answer.
func readVolume(body []byte, id int) (book, error) {
	var answer struct {
		Items []struct {
			VolumeInfo struct {
				Authors             []string `json:"authors"`
				Publisher           string   `json:"publisher"`
				PublishedDate       string   `json:"publishedDate"`
				PageCount           int      `json:"pageCount"`
				PrintType           string   `json:"printType"`
				Language            string   `json:"language"`
				IndustryIdentifiers []struct {
					Type       string `json:"type"`
					Identifier string `json:"identifier"`
				} `json:"industryIdentifiers"`
			} `json:"volumeInfo"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return book{}, fmt.Errorf("the book service's answer: %w", err)
	}
	if len(answer.Items) == 0 || len(answer.Items[0].VolumeInfo.Authors) == 0 {
		return book{}, errors.New("the book service knows no such book")
	}
	v := answer.Items[0].VolumeInfo
	b := book{ID: id, Author: v.Authors[0], Year: v.PublishedDate, Type: "unknown", Pages: v.PageCount,
		Publisher: v.Publisher, Language: "unknown"}
	if v.PrintType == "BOOK" {
		b.Type = "paperback"
	}
	if v.Language == "en" {
		b.Language = "English"
	}
	for _, x := range v.IndustryIdentifiers {
		switch x.Type {
		case "ISBN_10":
			b.ISBN10 = x.Identifier
		case "ISBN_13":
			b.ISBN13 = x.Identifier
		}
	}
	return b, nil
}
