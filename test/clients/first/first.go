// Command first does with Go's own resolver what testdata/first.c does with that of a C library.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// services fetches "/" of each target of the SRV records of a name.
func services(client *http.Client, name string) {
	_, records, err := (&net.Resolver{PreferGo: true}).LookupSRV(context.Background(), "", "", name)
	if err != nil {
		fmt.Println(name, err)
	}
	for _, record := range records {
		target := net.JoinHostPort(strings.TrimSuffix(record.Target, "."), fmt.Sprint(record.Port))
		response, err := client.Get("http://" + target + "/")
		if err != nil {
			fmt.Println(target, err)
			continue
		}
		response.Body.Close()
		fmt.Println(target, response.StatusCode)
	}
}

func main() {
	dialer := &net.Dialer{Resolver: &net.Resolver{PreferGo: true}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: time.Minute}
	names := bufio.NewScanner(os.Stdin)
	for names.Scan() {
		if strings.HasPrefix(names.Text(), "_") {
			services(client, names.Text())
			continue
		}
		response, err := client.Get("http://" + names.Text() + "/")
		if err != nil {
			fmt.Println(names.Text(), err)
			continue
		}
		response.Body.Close()
		fmt.Println(names.Text(), response.StatusCode)
	}
}
