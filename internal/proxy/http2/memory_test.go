package http2_test

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"

	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// Long heads and bodies pass whole whether or not there is memory to let them pass in long
// pieces.
func TestLongBodiesPassWhateverThereIsOfMemory(t *testing.T) {
	for _, most := range []int64{1, 40 << 10, 0} {
		f := newFixtureWithin(t, upstream.HTTP2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("x-long", r.Header.Get("x-long"))
			w.Write(b)
		}), http2.Limits{}, http1.Limits{MaxStreamBytes: most})
		c := f.client()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, i*i*500)
				long := string(bytes.Repeat([]byte{'a' + byte(i)}, i*1000))
				request, err := http.NewRequest(http.MethodPost, "http://a.example/", io.MultiReader(bytes.NewReader(body)))
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					request.ContentLength = int64(len(body))
				}
				request.Header.Set("x-long", long)
				response, err := c.Do(request)
				if err != nil {
					t.Errorf("%d, within %d bytes: %v", i, most, err)
					return
				}
				defer response.Body.Close()
				if b, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(b, body) || response.Header.Get("x-long") != long {
					t.Errorf("%d, within %d bytes: %d bytes of %d came back behind a head of %d, %v", i, most, len(b), len(body), len(response.Header.Get("x-long")), err)
				}
			})
		}
		all.Wait()
	}
}
