package main

import (
	"embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"time"
)

//go:embed page.html index.html static
var assets embed.FS

// backendTimeout is how long the page waits for details, and twice for reviews.
const backendTimeout = 3 * time.Second

type product struct {
	ID              int           `json:"id"`
	Title           string        `json:"title"`
	DescriptionHTML template.HTML `json:"descriptionHtml"`
}

var products = []product{{
	Title: "The Comedy of Errors",
	DescriptionHTML: `<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia Summary</a>: ` +
		`The Comedy of Errors is one of <b>William Shakespeare's</b> early plays. It is his shortest and one of ` +
		`his most farcical comedies, with a major part of the humour coming from slapstick and mistaken identity, ` +
		`in addition to puns and word play.`,
}}

type productPage struct {
	backends  backends
	templates *template.Template
}

// newProductPage serves the page, always with status 200, and the API, which
// passes the status of the service behind it through.
func newProductPage(b backends) http.Handler {
	p := &productPage{backends: b, templates: template.Must(template.New("").Funcs(template.FuncMap{
		"stars": func(n int) []struct{} { return make([]struct{}, max(0, min(n, 5))) },
		"rest":  func(n int) []struct{} { return make([]struct{}, 5-max(0, min(n, 5))) },
	}).ParseFS(assets, "*.html"))}
	static, err := fs.Sub(assets, "static")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler("/productpage", http.StatusFound))
	mux.HandleFunc("GET /index.html", p.index)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("Product page is healthy"))
	})
	mux.HandleFunc("POST /login", login)
	mux.HandleFunc("GET /logout", logout)
	mux.HandleFunc("GET /productpage", p.page)
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, products)
	})
	mux.HandleFunc("GET /api/v1/products/{id}", p.api(b.Details, "/details/", "product details", 1))
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", p.api(b.Reviews, "/reviews/", "product reviews", 2))
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", p.api(b.Ratings, "/ratings/", "product ratings", 1))
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	return mux
}

func (p *productPage) index(w http.ResponseWriter, r *http.Request) {
	p.render(w, "index.html", products[0])
}

// page asks details, then reviews (as the original does), and shows what came.
func (p *productPage) page(w http.ResponseWriter, r *http.Request) {
	view := struct {
		User    string
		Product product
		Details *book
		Reviews *reviewsAnswer
	}{Product: products[0]}
	if c, err := r.Cookie("user"); err == nil {
		view.User = c.Value
	}
	if u := r.URL.Query().Get("u"); u != "" && view.User == "" {
		view.User = u
	}
	if status, body := ask(r, p.backends.Details, "/details/0", 1); status == http.StatusOK {
		var b book
		if json.Unmarshal(body, &b) == nil {
			view.Details = &b
		}
	}
	if status, body := ask(r, p.backends.Reviews, "/reviews/0", 2); status == http.StatusOK {
		var a reviewsAnswer
		if json.Unmarshal(body, &a) == nil {
			view.Reviews = &a
		}
	}
	p.render(w, "page.html", view)
}

// api answers with what the service behind it said; 500 where it said nothing.
func (p *productPage) api(host, path, what string, tries int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || id < 0 {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "please provide numeric product id"})
			return
		}
		status, body := ask(r, host, path+strconv.Itoa(id), tries)
		if status != http.StatusOK {
			if status == 0 {
				status = http.StatusInternalServerError
			}
			writeJSON(w, status, map[string]string{"error": "Sorry, " + what + " are currently unavailable for this book."})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}
}

// ask tries a service; status 0 means that it could not be reached. Reviews are
// tried twice, the bug of the original that its tasks rely on.
func ask(r *http.Request, host, path string, tries int) (status int, body []byte) {
	for range tries {
		var err error
		if status, body, err = fetch(r.Context(), http.DefaultClient, "http://"+host+path, "", forwarded(r, true), backendTimeout); err == nil && status == http.StatusOK {
			return status, body
		}
		if err != nil {
			status, body = 0, nil
		}
	}
	return status, body
}

func (p *productPage) render(w http.ResponseWriter, name string, view any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := p.templates.ExecuteTemplate(w, name, view); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	http.SetCookie(w, &http.Cookie{Name: "user", Value: r.PostFormValue("username"), Path: "/"})
	http.Redirect(w, r, back(r), http.StatusFound)
}

func logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "user", Path: "/", MaxAge: -1})
	http.Redirect(w, r, back(r), http.StatusFound)
}

func back(r *http.Request) string {
	if referer := r.Header.Get("Referer"); referer != "" {
		return referer
	}
	return "/productpage"
}
