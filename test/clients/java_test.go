package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A dot behind the name goes to the server, which has no such site; HttpClient may
// throw instead.
const javaSource = `
import java.net.*;
import java.net.http.*;
class Get {
	public static void main(String[] names) throws Exception {
		for (String name : names) {
			var c = (HttpURLConnection) new URL("http://" + name + "/headers").openConnection();
			System.out.println("URL " + name + " " + c.getResponseCode());
			try {
				var r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://" + name + "/headers")).build(), HttpResponse.BodyHandlers.ofString());
				System.out.println("client " + name + " " + r.statusCode() + " " + r.body());
			} catch (Exception e) {
				System.out.println("client " + name + " throws " + e);
			}
		}
	}
}
`

// Java's HttpClient asks for an upgrade to h2c with each first request.
func TestJavasClientsAreServed(t *testing.T) {
	java := client(t, "java")
	client(t, "javac")
	s := newSandbox(t)
	file := filepath.Join(filepath.Dir(s.Runtime), "Get.java")
	if err := os.WriteFile(file, []byte(javaSource), 0o644); err != nil {
		t.Fatal(err)
	}
	r := s.run(t, "www.example.com:80", java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", file, "www.example.com", "www.example.com.")
	if r.Code != 0 || strings.Contains(r.Stderr, "sluice:") {
		t.Errorf("exit %d, %q", r.Code, r.Stderr)
	}
	for _, line := range []string{"URL www.example.com 200\n", "client www.example.com 200 ", "URL www.example.com. 421\n", "client www.example.com. "} {
		if !strings.Contains(r.Stdout, line) {
			t.Errorf("%q, want %q", r.Stdout, line)
		}
	}
}
