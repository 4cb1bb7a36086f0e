package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

const volume = `{"items":[{"volumeInfo":{"title":"The Comedy of Errors","authors":["William Shakespeare"],
"publisher":"Courier Corporation","publishedDate":"2002-01-01","pageCount":64,"printType":"BOOK","language":"en",
"industryIdentifiers":[{"type":"ISBN_10","identifier":"0486424618"},{"type":"ISBN_13","identifier":"9780486424613"}]}}]}`

func start(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestThePageShowsDetailsReviewsAndStars(t *testing.T) {
	ratings := start(t, newRatings())
	b := backends{
		Details: start(t, newDetails(detailsConfig{})), Ratings: ratings,
		Reviews: start(t, newReviews(reviewsConfig{Ratings: true, StarColor: "red", Backends: backends{Ratings: ratings}})),
	}
	status, page := get(t, "http://"+start(t, newProductPage(b))+"/productpage")
	for _, want := range []string{"<title>Simple Bookstore App</title>", "BookInfo Sample", "The Comedy of Errors", "Book Details",
		"<dd>paperback</dd>", "<dd>200</dd>", "PublisherA", "Book Reviews", "Reviewer1", `<font color="red"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if status != 200 || strings.Count(page, "glyphicon-star\"") != 9 || strings.Count(page, "glyphicon-star-empty") != 1 {
		t.Errorf("status %d, stars %d full and %d empty", status, strings.Count(page, "glyphicon-star\""), strings.Count(page, "glyphicon-star-empty"))
	}
}

func TestTheRootLeadsToThePage(t *testing.T) {
	dead := "127.0.0.1:1"
	at := "http://" + start(t, newProductPage(backends{dead, dead, dead}))
	resp, err := http.Get(at + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Request.URL.Path != "/productpage" {
		t.Errorf("/ leads to %s, status %d", resp.Request.URL, resp.StatusCode)
	}
	if status, page := get(t, at+"/index.html"); status != 200 || !strings.Contains(page, "Click on one of the links") {
		t.Errorf("the index: status %d:\n%s", status, page)
	}
}

func TestThePageSaysWhatItCouldNotFetchAndIsStill200(t *testing.T) {
	dead := "127.0.0.1:1"
	status, page := get(t, "http://"+start(t, newProductPage(backends{dead, dead, dead}))+"/productpage")
	if status != 200 || !strings.Contains(page, "Error fetching product details!") || !strings.Contains(page, "Error fetching product reviews!") {
		t.Errorf("status %d:\n%s", status, page)
	}
}

func TestTheAPIPassesTheStatusThrough(t *testing.T) {
	failing := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400) }))
	page := start(t, newProductPage(backends{failing, "127.0.0.1:1", start(t, newRatings())}))
	for path, want := range map[string]int{"/0": 400, "/0/reviews": 500, "/0/ratings": 200, "/x": 400, "": 200} {
		if status, body := get(t, "http://"+page+"/api/v1/products"+path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
}

func TestDetailsV2AsksTheBookServiceInBothWays(t *testing.T) {
	var host, path, trace string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, path, trace = r.Host, r.URL.String(), r.Header.Get("x-b3-traceid")
		io.WriteString(w, volume)
	}))
	defer service.Close()
	proxy, _ := url.Parse(service.URL) // stands for the mesh: whatever is asked arrives there
	for _, plain := range []bool{true, false} {
		c := detailsConfig{External: true, Plain: plain}
		if plain {
			c.client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
		} else {
			tls := httptest.NewTLSServer(service.Config.Handler)
			defer tls.Close()
			c.client, c.host = tls.Client(), strings.TrimPrefix(tls.URL, "https://")
		}
		status, body := get(t, "http://"+start(t, newDetails(c))+"/details/7", "x-b3-traceid", "abc")
		var b book
		json.Unmarshal([]byte(body), &b)
		if status != 200 || b.ID != 7 || b.Pages != 64 || b.Type != "paperback" || b.Language != "English" || b.ISBN13 != "9780486424613" {
			t.Errorf("plain %v: %d %s", plain, status, body)
		}
		if plain && host != "www.googleapis.com:443" || !strings.HasSuffix(path, "/books/v1/volumes?q=isbn:0486424618") || trace != "abc" {
			t.Errorf("plain %v: Host %q, path %q, trace %q", plain, host, path, trace)
		}
	}
}

func TestWhateverFailsInDetailsIsStatus400WithTheError(t *testing.T) {
	denied := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "denied", http.StatusForbidden) }))
	defer denied.Close()
	d := "http://" + start(t, newDetails(detailsConfig{External: true, client: denied.Client(), host: strings.TrimPrefix(denied.URL, "https://")}))
	for path, want := range map[string]string{"/details/x": "please provide numeric product id", "/details/0": "403"} {
		if status, body := get(t, d+path); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestOnlyTheUserCookieIsHandedOn(t *testing.T) {
	var cookie string
	ratings := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie = r.Header.Get("Cookie")
		newRatings().ServeHTTP(w, r)
	}))
	reviews := start(t, newReviews(reviewsConfig{Ratings: true, StarColor: "black", Backends: backends{Ratings: ratings}}))
	get(t, "http://"+start(t, newProductPage(backends{reviews, reviews, reviews}))+"/productpage", "Cookie", "secret=1; user=jason")
	if cookie != "user=jason" {
		t.Errorf("ratings saw the cookie %q", cookie)
	}
}

func TestAnswersAreThoseOfTheOriginal(t *testing.T) {
	details, reviews, ratings := newDetails(detailsConfig{}), newReviews(reviewsConfig{}), newRatings()
	page := newProductPage(backends{start(t, details), start(t, reviews), start(t, ratings)})
	for _, x := range []struct {
		service http.Handler
		path    string
		status  int
		body    string
	}{
		{details, "/details/0", 200, `{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}`},
		{details, "/details/x", 400, `{"error":"please provide numeric product id"}`},
		{details, "/health", 200, `{"status":"Details is healthy"}`},
		{ratings, "/ratings/0", 200, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`},
		{ratings, "/ratings/x", 400, `{"error":"please provide numeric product ID"}`},
		{ratings, "/health", 200, `{"status":"Ratings is healthy"}`},
		{ratings, "/nowhere", 404, ""},
		{reviews, "/reviews/0", 200, `{"id":"0","reviews":[{"reviewer":"Reviewer1","text":"An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},{"reviewer":"Reviewer2","text":"Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."}]}`},
		{reviews, "/health", 200, `{"status":"Reviews is healthy"}`},
		{page, "/health", 200, "Product page is healthy"},
		{page, "/api/v1/products", 200, `"descriptionHtml":"<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: `},
		{page, "/index.html", 200, `href="/productpage?u=test"`},
	} {
		if status, body := get(t, "http://"+start(t, x.service)+x.path); status != x.status || !strings.Contains(body, x.body) {
			t.Errorf("%s: %d %s; want %d %s", x.path, status, body, x.status, x.body)
		}
	}
}

func TestWhoeverSignsInIsShownAndCanSignOut(t *testing.T) {
	page := "http://" + start(t, newProductPage(backends{"127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"}))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, _ := http.NewRequest(http.MethodPost, page+"/login", strings.NewReader("username=jason"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Referer", page+"/productpage")
	in, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	in.Body.Close()
	if in.StatusCode != 302 || in.Header.Get("Location") != page+"/productpage" || in.Header.Get("Set-Cookie") != "user=jason; Path=/" {
		t.Errorf("signing in: %d %v", in.StatusCode, in.Header)
	}
	if _, body := get(t, page+"/productpage", "Cookie", "user=jason"); !strings.Contains(body, `jason ( <a href="logout">sign out</a> )`) {
		t.Errorf("the page does not say who it is:\n%s", body)
	}
	out, err := client.Get(page + "/logout")
	if err != nil {
		t.Fatal(err)
	}
	out.Body.Close()
	if out.StatusCode != 302 || !strings.Contains(out.Header.Get("Set-Cookie"), "user=; Path=/; Max-Age=0") {
		t.Errorf("signing out: %d %v", out.StatusCode, out.Header)
	}
}
