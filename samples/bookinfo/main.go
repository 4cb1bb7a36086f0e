// Command bookinfo is the Bookinfo application of the Istio samples, one binary
// with a role for each service: productpage, details, reviews and ratings. It is
// an ordinary application: it knows nothing of Sluice and links none of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const usage = `bookinfo runs one service of the Bookinfo application.

Usage:
  bookinfo ROLE [PORT]

Roles:
  productpage   the page and its API
  details       the book's details; ENABLE_EXTERNAL_BOOK_SERVICE=true asks www.googleapis.com
                (by TLS, or by plain HTTP to port 443 with WITH_ISTIO=true)
  reviews       two reviews; ENABLE_RATINGS=true asks ratings, STAR_COLOR=red colours them
  ratings       the stars

PORT is 9080 where it is left out. Other variables: SERVICE_VERSION; on productpage and
reviews DETAILS_HOSTNAME, REVIEWS_HOSTNAME, RATINGS_HOSTNAME (details, reviews, ratings)
and SERVICES_PORT (9080).

Examples:
  bookinfo ratings
  ENABLE_RATINGS=true STAR_COLOR=red bookinfo reviews 9080
`

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 || os.Args[1] == "-h" || os.Args[1] == "--help" {
		fmt.Fprint(os.Stderr, usage)
		if len(os.Args) == 2 {
			os.Exit(0)
		}
		os.Exit(2)
	}
	port := 9080
	if len(os.Args) == 3 {
		var err error
		if port, err = strconv.Atoi(os.Args[2]); err != nil || port < 1 || port > 65535 {
			fail(fmt.Errorf("port %q must be a number from 1 to 65535", os.Args[2]))
		}
	}
	handler, err := newRole(os.Args[1])
	if err != nil {
		fail(err)
	}
	if err := serve(port, handler); err != nil {
		fail(err)
	}
}

func newRole(role string) (http.Handler, error) {
	switch role {
	case "productpage":
		return newProductPage(backendsFromEnvironment()), nil
	case "details":
		return newDetails(detailsConfig{
			External: os.Getenv("ENABLE_EXTERNAL_BOOK_SERVICE") == "true",
			Plain:    os.Getenv("WITH_ISTIO") == "true",
		}), nil
	case "reviews":
		return newReviews(reviewsConfig{
			Ratings:   os.Getenv("ENABLE_RATINGS") == "true",
			StarColor: environment("STAR_COLOR", "black"),
			Backends:  backendsFromEnvironment(),
		}), nil
	case "ratings":
		if v := os.Getenv("SERVICE_VERSION"); v == "v2" {
			return nil, errors.New("ratings v2 (MongoDB and MySQL) is not supported yet; leave SERVICE_VERSION out or set v1")
		}
		return newRatings(), nil
	}
	return nil, fmt.Errorf("role %q is not known; the roles are productpage, details, reviews, ratings", role)
}

// serve runs until SIGINT or SIGTERM, then lets requests in flight end for 2 s.
func serve(port int, h http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := &http.Server{
		Addr:              ":" + strconv.Itoa(port),
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- s.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(drain); err != nil {
		return s.Close()
	}
	return nil
}

func fail(err error) {
	log.SetFlags(0)
	log.Fatalf("bookinfo: %v", err)
}

func environment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
