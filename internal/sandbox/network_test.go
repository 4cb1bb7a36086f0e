package sandbox

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

var roles = map[string]func(args []string) int{
	"get": getRole,
}

// getRole fetches each URL as a plain client would.
func getRole(urls []string) int {
	for _, url := range urls {
		response, err := http.Get(url)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Print(string(body))
	}
	return 0
}

func TestEveryConnectionArrivesWithItsOriginalDestination(t *testing.T) {
	output, exit, _ := inside(t, "get", "http://192.0.2.7:81/", "http://[2001:db8::7]:443/", "http://www.example.com/", "http://10.1.2.3:15001/")
	want := "you meant 192.0.2.7:81\nyou meant [2001:db8::7]:443\nyou meant 198.19.0.7:80\nyou meant 10.1.2.3:15001\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d, output %q, want %q", exit, output, want)
	}
}

func TestCurlIsCaptured(t *testing.T) {
	needProgram(t, "curl")
	output, exit, _ := inside(t, "curl", "-sS", "http://www.example.com:8080/", "http://192.0.2.1/")
	if exit != 0 || !strings.Contains(output, "198.19.0.7:8080") || !strings.Contains(output, "192.0.2.1:80") {
		t.Errorf("exit %d, output %q", exit, output)
	}
}
