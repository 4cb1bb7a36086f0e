// Package questions measures what a question to DNS costs inside a sandbox, at a fixed
// rate: its role asks from the inside, by a socket, as a C library does. It never waits
// for an answer before it asks the next, so that what is slow is seen.
package questions

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/stats"
)

const (
	// Name is the section's, Title what is printed above it.
	Name  = "questions"
	Title = "Questions to DNS inside a sandbox, 1,000 a second"
	// RoleAsk is the client's role.
	RoleAsk = "questions-ask"
)

const (
	perSecond = 1000
	allowed   = "*.example.com"
	patience  = 5 * time.Second // for the last answers
	nameCount = 500             // names that come again
)

// Options say how much is measured.
type Options struct {
	Bin      string
	Duration time.Duration
}

// result is what the client saw.
type result struct {
	Asked int
	Took  []float64 // of each that was answered, in milliseconds
}

// Run measures.
func Run(ctx context.Context, self string, o Options, progress report.Progress) (report.Section, error) {
	section := report.Section{Name: Name, Title: Title}
	sluice := filepath.Join(o.Bin, "sluice")
	if _, err := os.Stat(sluice); err != nil {
		section.Skipped = err.Error()
		return section, nil
	}
	table := report.Table{Columns: []string{"questions", "asked", "answered", "p50 ms", "p99 ms", "max ms"}}
	section.Samples = make(map[string][]float64)
	for _, kind := range []string{"names that come again", "new names"} {
		progress.Say("questions: %s", kind)
		var out, said bytes.Buffer
		cmd := exec.CommandContext(ctx, sluice, "run", "--allow", allowed+":443", "--", self, RoleAsk, kind, o.Duration.String())
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			return section, fmt.Errorf("ask inside a sandbox: %w\n%s", err, said.Bytes())
		}
		var r result
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			return section, fmt.Errorf("ask inside a sandbox: %w", err)
		}
		table.Add(kind, fmt.Sprint(r.Asked), fmt.Sprint(len(r.Took)), report.Number(stats.Percentile(r.Took, 50), 3), report.Number(stats.Percentile(r.Took, 99), 3), report.Number(stats.Percentile(r.Took, 100), 3))
		section.Samples[kind+", ms"] = r.Took
	}
	section.Tables = []report.Table{table}
	section.Notes = []string{"A and AAAA in turn, of names that a wildcard allows. New names are bounded to a burst of 1,000 and 100 a second; what is beyond has SERVFAIL, which is an answer here."}
	return section, nil
}

// Ask is the client's role: it asks for so long, and writes the result as JSON.
func Ask(kind, duration string, out io.Writer) error {
	length, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", "198.18.0.1:53")
	if err != nil {
		return err
	}
	defer conn.Close()
	count := min(int(length.Seconds()*perSecond), 1<<16) // an id each
	sent := make([]time.Time, count)
	answers := make(chan []float64, 1)
	go func() {
		var took []float64
		seen, in := make([]bool, count), make([]byte, 1500)
		for len(took) < count {
			n, err := conn.Read(in)
			now := time.Now()
			if err != nil {
				break
			}
			if id := int(binary.BigEndian.Uint16(in)); n >= 12 && id < count && !seen[id] {
				seen[id] = true
				took = append(took, float64(now.Sub(sent[id]).Microseconds())/1000)
			}
		}
		answers <- took
	}()
	start := time.Now()
	for i := range count {
		message, err := question(i, kind == "new names")
		if err != nil {
			return err
		}
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / perSecond)))
		sent[i] = time.Now()
		if _, err := conn.Write(message); err != nil {
			return err
		}
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	return json.NewEncoder(out).Encode(result{Asked: count, Took: <-answers})
}

// question is the message with the number i for its id.
func question(i int, isNew bool) ([]byte, error) {
	name, typ := i/2, dnsmessage.TypeA
	if !isNew {
		name %= nameCount
	}
	if i%2 == 1 {
		typ = dnsmessage.TypeAAAA
	}
	host, err := dnsmessage.NewName(fmt.Sprintf("n%d.example.com.", name))
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: uint16(i), RecursionDesired: true})
	err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: host, Type: typ, Class: dnsmessage.ClassINET}))
	if err != nil {
		return nil, err
	}
	return b.Finish()
}
