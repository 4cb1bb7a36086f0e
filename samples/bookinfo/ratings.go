package main

import (
	"net/http"
	"strconv"
)

// newRatings serves the stars of v1: two reviewers, in memory.
func newRatings() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "Ratings is healthy"})
	})
	mux.HandleFunc("GET /ratings/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "please provide numeric product ID"})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"id":      id,
			"ratings": map[string]int{"Reviewer1": 5, "Reviewer2": 4},
		})
	})
	return mux
}
