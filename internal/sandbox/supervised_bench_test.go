package sandbox

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// connectsRole says the median of many connects to a listener of its own, in
// nanoseconds: by TCP and to a file.
func connectsRole(args []string) int {
	for _, address := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", args[0]}} {
		listener, err := net.Listen(address[0], address[1])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		took := make([]time.Duration, 3000)
		for i := range took {
			began := time.Now()
			client, err := net.Dial(address[0], listener.Addr().String())
			took[i] = time.Since(began)
			if err != nil {
				fmt.Println(err)
				return 1
			}
			server, err := listener.Accept()
			if err != nil {
				fmt.Println(err)
				return 1
			}
			client.Close()
			server.Close()
		}
		listener.Close()
		slices.Sort(took)
		fmt.Println(took[len(took)/2].Nanoseconds())
	}
	return 0
}

// What a connect costs with and without the supervisor, in turns.
func BenchmarkConnect(b *testing.B) {
	names := []string{"tcp", "file"}
	medians := map[bool][2][]float64{}
	for b.Loop() {
		for _, unsupervised := range []bool{false, true} {
			config := Config{Command: []string{"connects", fmt.Sprint(b.TempDir(), "/s")}, Unsupervised: unsupervised}
			output, exit := newPlace(b, config).run(b)
			said := lines(output)
			if exit != 0 || len(said) != len(names) {
				b.Fatalf("exit %d: %s", exit, output)
			}
			all := medians[unsupervised]
			for at, line := range said {
				var nanoseconds float64
				fmt.Sscan(strings.TrimSpace(line), &nanoseconds)
				all[at] = append(all[at], nanoseconds)
			}
			medians[unsupervised] = all
		}
	}
	for at, name := range names {
		for unsupervised, kind := range map[bool]string{false: "supervised", true: "bare"} {
			all := slices.Sorted(slices.Values(medians[unsupervised][at]))
			b.ReportMetric(all[len(all)/2]/1000, name+"-"+kind+"-µs")
		}
	}
}
