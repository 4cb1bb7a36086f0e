package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

type reviewsConfig struct {
	Ratings   bool   // v2 and v3
	StarColor string // "black" in v2, "red" in v3
	Backends  backends
}

type review struct {
	Reviewer string  `json:"reviewer"`
	Text     string  `json:"text"`
	Rating   *rating `json:"rating,omitempty"`
}

type rating struct {
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

type reviewsAnswer struct {
	ID      string   `json:"id"` // a string, as the original has it
	Reviews []review `json:"reviews"`
}

// newReviews serves two reviews, with stars where ratings are asked for. It waits
// 10 s for them, with red stars 2.5 s.
func newReviews(c reviewsConfig) http.Handler {
	timeout := 10 * time.Second
	if c.StarColor == "red" {
		timeout = 2500 * time.Millisecond
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "Reviews is healthy"})
	})
	mux.HandleFunc("GET /reviews/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "please provide numeric product ID"})
			return
		}
		a := reviewsAnswer{ID: strconv.Itoa(id), Reviews: []review{
			{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
			{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
		}}
		if c.Ratings {
			stars := askRatings(r, c.Backends.Ratings, a.ID, timeout)
			for i := range a.Reviews {
				a.Reviews[i].Rating = &rating{Error: "Ratings service is currently unavailable"}
				if n, ok := stars[a.Reviews[i].Reviewer]; ok {
					a.Reviews[i].Rating = &rating{Stars: n, Color: c.StarColor}
				}
			}
		}
		writeJSON(w, http.StatusOK, a)
	})
	return mux
}

// askRatings returns the stars by reviewer, nil where the service cannot say.
func askRatings(r *http.Request, host, id string, timeout time.Duration) map[string]int {
	status, body, err := fetch(r.Context(), http.DefaultClient, "http://"+host+"/ratings/"+id, "", forwarded(r, true), timeout)
	var answer struct {
		Ratings map[string]int `json:"ratings"`
	}
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		return nil
	}
	return answer.Ratings
}
