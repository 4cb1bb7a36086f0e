package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/wire"
)

func welcoming(ctx context.Context, a *Attachment) {
	a.Welcome(Welcome{Instance: a.Hello.Service + "/1", Search: []string{"cluster.local"}})
	<-ctx.Done()
}

func TestASandboxIsHandedOverAndServed(t *testing.T) {
	needSandbox(t)
	ended := make(chan struct{}, 2)
	path, _ := serve(t, ServerConfig{Check: peer.Check, Handle: func(ctx context.Context, a *Attachment) {
		for _, listener := range a.Capture.TCP {
			go func() {
				for {
					conn, err := listener.AcceptTCP()
					if err != nil {
						return
					}
					go answer(conn, a.Hello.Service+" means "+capture.OriginalDestination(conn).String())
				}
			}()
		}
		welcoming(ctx, a)
		ended <- struct{}{}
	}})
	output, exit := runAttached(t, path, "get", "http://192.0.2.1:81/")
	if exit != 0 || output != "details means 192.0.2.1:81" {
		t.Errorf("exit %d: %s", exit, output)
	}
	<-ended // with the sandbox the attachment ended
}

// runAttached is `sluice run` in small.
func runAttached(t *testing.T, path, role string, args ...string) (output string, exit int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	s, err := sandbox.New(t.Context(), sandbox.Config{
		Command: append([]string{self}, args...), Env: append(os.Environ(), roleVariable+"="+role), Stdout: write,
		Unix: []string{path}, // so that only the check stands between
	})
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	welcome, err := client.Attach(t.Context(), Hello{Workload: wire.Workload{Service: "details", PID: s.PID()}}, s.Files(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(welcome.Search); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-client.Done()
		s.Kill()
	}()
	exit, _ = s.Wait()
	all, _ := io.ReadAll(read)
	return string(all), exit
}

func TestTheEndOfTheProxyEndsTheSandbox(t *testing.T) {
	needSandbox(t)
	attached := make(chan struct{})
	path, stop := serve(t, ServerConfig{Handle: func(ctx context.Context, a *Attachment) {
		a.Welcome(Welcome{})
		close(attached)
		<-ctx.Done()
	}})
	go func() {
		<-attached
		time.Sleep(10 * time.Millisecond) // the command may start or not
		stop()
	}()
	if _, exit := runAttached(t, path, "sleep"); exit != 137 {
		t.Errorf("exit %d", exit)
	}
}

func TestACommandInASandboxMayNotAttach(t *testing.T) {
	needSandbox(t)
	handled := make(chan string, 10)
	path, _ := serve(t, ServerConfig{Check: peer.Check, Handle: func(ctx context.Context, a *Attachment) { handled <- a.Hello.Service; welcoming(ctx, a) }})
	output, exit := runAttached(t, path, "attach", path)
	if exit != 4 || !strings.Contains(output, "closed the connection") && !strings.Contains(output, "broken pipe") && !strings.Contains(output, "reset") {
		t.Errorf("exit %d: %s", exit, output)
	}
	if first := <-handled; first != "details" || len(handled) != 0 {
		t.Errorf("handled %s and %d more", first, len(handled))
	}
}

func TestTheEndOfEitherSideEndsTheOther(t *testing.T) {
	done := make(chan struct{})
	leave := make(chan struct{})
	path, _ := serve(t, ServerConfig{Handle: func(ctx context.Context, a *Attachment) {
		a.Welcome(Welcome{Instance: "a/1"})
		select {
		case <-a.Done():
			close(done)
		case <-leave:
		}
	}})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if welcome, err := client.Attach(t.Context(), Hello{}, files(t), nil); err != nil || welcome.Instance != "a/1" {
		t.Fatal(welcome, err)
	}
	client.Close()
	<-done
	<-client.Done()

	if client, err = Dial(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Attach(t.Context(), Hello{}, files(t), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-client.Done():
		t.Fatal("done before its end")
	default:
	}
	close(leave)
	<-client.Done()
}

func TestARefusalReachesTheClientWithItsReason(t *testing.T) {
	path, _ := serve(t, ServerConfig{Handle: func(_ context.Context, a *Attachment) { a.Refuse("details-v1 is full " + strings.Repeat("x", 1<<20)) }})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Attach(t.Context(), Hello{}, files(t), nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Text, "details-v1 is full") || len(refused.Text) > 5000 {
		t.Error(err)
	}
}

func TestABadHelloIsRefusedAndItsFilesClosed(t *testing.T) {
	path, _ := serve(t, ServerConfig{Handle: welcoming})
	try := func(hello any, files []*os.File) string {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		descriptors := make([]int, len(files))
		for i, file := range files {
			descriptors[i] = int(file.Fd())
		}
		err = seqpacket.Send(conn, hello, descriptors...)
		capture.CloseFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		var welcome Welcome
		if _, err := seqpacket.Receive(conn, &welcome, 0); err != nil {
			t.Fatal(err)
		}
		return welcome.Error
	}
	if got := try(Hello{Workload: wire.Workload{Service: "details"}}, files(t)); got != "" { // without a format, as the first were written
		t.Errorf("the first format: %s", got)
	}
	try(Hello{}, files(t)) // what the first opens for good
	before := countDescriptors()
	labels := make(map[string]string)
	for i := range MaxLabels + 1 {
		labels[fmt.Sprint(i)] = ""
	}
	double := files(t)[:2]
	for name, test := range map[string]struct {
		hello any
		files []*os.File
		want  string
	}{
		"no files":         {Hello{}, nil, "factory"},
		"files of a kind":  {Hello{}, double, "factory"},
		"too many files":   {Hello{}, append(append(files(t), files(t)...), files(t)...), "too many"},
		"its own instance": {Hello{Workload: wire.Workload{Instance: "a/1"}}, files(t), "instance"},
		"too many labels":  {Hello{Workload: wire.Workload{Labels: labels}}, files(t), "labels"},
		"too many ports":   {Hello{Workload: wire.Workload{Ports: make([]uint16, MaxPorts+1)}}, files(t), "ports"},
		"a later format":   {map[string]any{"format": 7, "service": []string{"a", "b"}}, files(t), "the hello of a sandbox has format 7; sluice-proxy reads formats 1 to 4: upgrade sluice-proxy"},
		"an unknown field": {map[string]any{"format": 1, "clearance": "secret"}, files(t), "clearance"},
		"a long name":      {Hello{Workload: wire.Workload{Service: strings.Repeat("x", 254)}}, files(t), "254 bytes"},
		"not a hello":      {"hello", files(t), "not a valid object"},
	} {
		if got := try(test.hello, test.files); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	eventually(t, fmt.Sprintf("%d descriptors", before), func() bool { return countDescriptors() <= before })
}

// answering is a proxy of another release, which answers every hello alike.
func answering(t *testing.T, answer string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "attach.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			received, err := seqpacket.Receive(conn, new(json.RawMessage), MaxFiles)
			if err == nil {
				seqpacket.Close(received)
				seqpacket.Send(conn, json.RawMessage(answer))
			}
			conn.Close()
		}
	}()
	return path
}

func TestAWelcomeOfAnotherFormatIsRefusedWithTheReason(t *testing.T) {
	for answer, want := range map[string]string{
		`{"format":2,"instance":"details-v1/1"}`:                  "",
		`{"instance":"details-v1/1"}`:                             "has format 1; this sluice reads format 2: upgrade the Sluice that wrote it", // the first were written without a format
		`{"format":7,"instance":{"name":"details-v1/1"}}`:         "the welcome of the proxy has format 7; this sluice reads format 2: upgrade this sluice",
		`{"format":7,"error":"your hello has format 1: upgrade"}`: "the proxy refused the sandbox: your hello has format 1: upgrade",
		`{"format":2,"instance":7}`:                               "read welcome",
	} {
		client, err := Dial(t.Context(), answering(t, answer))
		if err != nil {
			t.Fatal(err)
		}
		welcome, err := client.Attach(t.Context(), Hello{}, files(t), nil)
		if want == "" && (err != nil || welcome.Instance != "details-v1/1") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %+v, %v; want %s", answer, welcome, err, want)
		}
		client.Close()
	}
}

func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"format":1,"service":"details","version":"v2","namespace":"default","labels":{"team":"books"},"ports":[9080],"pid":7,"level":"sandbox"}`))
	f.Add([]byte(`{"service":"details","instance":"","proxy":""}`))
	f.Add([]byte(`{"format":7,"service":[]}`))
	f.Add([]byte(`{"format":1,"instance":"details-v2/1"}`))
	f.Add([]byte(`{"format":3,"ports":[9080],"unready":[{"port":9080,"since":"2026-11-03T12:00:00Z","why":"GET /health was answered with 503"}]}`))
	f.Add([]byte(`{"format":3,"ports":[9080],"unready":[{"port":1}]}`))
	f.Fuzz(func(t *testing.T, said []byte) {
		taken, err := decodeHello(said)
		if err != nil {
			return
		}
		if taken.Instance != "" || taken.Proxy != "" || len(taken.Labels) > MaxLabels || len(taken.Ports) > MaxPorts || len(taken.Service) > maxWord {
			t.Fatalf("%q was taken as %+v", said, taken)
		}
		b, err := json.Marshal(hello{helloFormat, taken})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeHello(b); err != nil || fmt.Sprint(again) != fmt.Sprint(taken) {
			t.Fatalf("%+v was read again as %+v, %v", taken, again, err)
		}
	})
}

func FuzzWelcome(f *testing.F) {
	f.Add([]byte(`{"format":2,"instance":"details-v2/1","search":["default.svc.cluster.local"]}`))
	f.Add([]byte(`{"error":"no"}`))
	f.Add([]byte(`{"format":7}`))
	f.Fuzz(func(t *testing.T, said []byte) {
		var refused *RefusedError
		taken, err := decodeWelcome(said)
		if err == nil && taken.Error != "" || err != nil && taken.Instance != "" || errors.As(err, &refused) && refused.Text == "" {
			t.Fatalf("%q was taken as %+v, %v", said, taken, err)
		}
	})
}

func TestOneAboveTheBoundIsRefusedWithTheReason(t *testing.T) {
	path, _ := serve(t, ServerConfig{Handle: welcoming, MaxAttachments: 2})
	var clients []*Client
	for i := range 3 {
		client, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		clients = append(clients, client)
		_, err = client.Attach(t.Context(), Hello{}, files(t), nil)
		var refused *RefusedError
		if full := i == 2; full && (!errors.As(err, &refused) || !strings.Contains(refused.Text, "2 sandboxes")) || !full && err != nil {
			t.Errorf("attachment %d: %v", i, err)
		}
	}
	clients[0].Close()
	eventually(t, "a place is free", func() bool {
		client, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Attach(t.Context(), Hello{}, files(t), nil)
		return err == nil
	})
}

func TestAPeerThatMayNotAttachGetsNoAnswer(t *testing.T) {
	path, _ := serve(t, ServerConfig{Check: func(*net.UnixConn) error { return errors.New("secret reason") }, Handle: welcoming})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Attach(t.Context(), Hello{}, files(t), nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestHalfAHelloIsWaitedForOnlySoLong(t *testing.T) {
	if testing.Short() {
		t.Skip("5 seconds")
	}
	t.Parallel()
	path, _ := serve(t, ServerConfig{Handle: welcoming})
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * HelloTimeout))
	var welcome Welcome
	if _, err := seqpacket.Receive(conn, &welcome, 0); err != nil || !strings.Contains(welcome.Error, "timeout") {
		t.Errorf("%+v, %v", welcome, err)
	}
}

func TestAClientWhoseContextEndsGivesUp(t *testing.T) {
	path, _ := serve(t, ServerConfig{Handle: func(ctx context.Context, _ *Attachment) { <-ctx.Done() }}) // never welcomes
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.Attach(soon, Hello{}, files(t), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestListenReplacesADeadSocketAndRefusesALiveOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attach.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := Listen(path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("beside a live one: %v", err)
	}
	listener.Close()
	if listener, err = Listen(path); err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := os.WriteFile(path+".file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path+".none"); err == nil {
		t.Error("dialled nothing")
	}
}

// collecting serves an attachment as a proxy does: it collects, and says at the end what
// there was.
func collecting(records int) func(context.Context, *Attachment) {
	return func(_ context.Context, a *Attachment) {
		var each func(*record.Record) error
		if a.Hello.Each {
			each = a.Tell
		}
		collected := report.NewCollector(each)
		a.Welcome(Welcome{Instance: "a/1"})
		collected.Begin()
		<-a.Done()
		for i := range records { // connections that end with their command
			collected.Closed(&record.Record{ID: record.ID(i + 1), Dialled: fmt.Sprint("h", i, ".example"), Port: 443, Verdict: record.Denied, Reason: refusal.NoRule})
		}
		if summary := collected.End(); a.Asked() {
			a.Sum(summary, collected.Dropped())
		}
	}
}

func TestWhatBecameOfTheCommandsConnectionsIsToldToTheLast(t *testing.T) {
	const records = 300
	for _, every := range []bool{false, true} {
		path, _ := serve(t, ServerConfig{Handle: collecting(records)})
		client, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		var told []record.ID
		if _, err := client.Attach(t.Context(), Hello{Each: every}, files(t), func(r *record.Record) { told = append(told, r.ID) }); err != nil {
			t.Fatal(err)
		}
		summary, dropped, err := client.Finish()
		if err != nil || dropped != 0 || summary.Counts.Denied != records || len(summary.Entries) != records {
			t.Errorf("each %v: %v; %d dropped, counted %+v, %d entries", every, err, dropped, summary.Counts, len(summary.Entries))
		}
		if want := map[bool]int{true: records}[every]; len(told) != want {
			t.Errorf("each %v: told of %d records, want %d", every, len(told), want)
		}
		<-client.Done()
	}
}

func TestWhoLeavesWithoutAWordIsToldNothing(t *testing.T) {
	asked := make(chan bool, 1)
	path, _ := serve(t, ServerConfig{Handle: func(_ context.Context, a *Attachment) {
		a.Welcome(Welcome{})
		<-a.Done()
		asked <- a.Asked()
	}})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Attach(t.Context(), Hello{}, files(t), nil); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if <-asked {
		t.Error("a client that is gone is said to have asked")
	}
}

func TestAProxyThatEndsBeforeItsLastWordIsSaid(t *testing.T) {
	path, _ := serve(t, ServerConfig{Handle: func(_ context.Context, a *Attachment) {
		a.Welcome(Welcome{})
		<-a.Done() // and ends, as one that was killed
	}})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Attach(t.Context(), Hello{}, files(t), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Finish(); err == nil || !strings.Contains(err.Error(), "did not say what became of the command's connections: it ended first") {
		t.Errorf("it says %v", err)
	}
}

// Each string that a stranger chose is bounded, so that a record fits in a message
// whatever it holds.
func TestTheLongestRecordFitsInAMessage(t *testing.T) {
	long := strings.Repeat("\x01", record.MaxText) // six bytes each in JSON
	r := record.Record{
		ID: 1, Workload: strings.Repeat("w", 200), Direction: record.Egress, Dialled: strings.Repeat("d", 253), Port: 65535, SNI: long, Host: long,
		Method: long, Path: long, Upgrade: long, Detail: long, Verdict: record.Denied, Reason: refusal.UpgradeForbidden, Rule: strings.Repeat("r", 600),
		Upstream: strings.Repeat("u", 300), Snapshot: strings.Repeat("s", 64),
	}
	summary := report.Summary{Entries: []report.Entry{{Outcome: report.Denied, Count: 1, Last: r}}, Counts: report.Counts{Denied: 1}}
	path, _ := serve(t, ServerConfig{Handle: func(_ context.Context, a *Attachment) {
		a.Welcome(Welcome{})
		if err := a.Tell(&r); err != nil {
			t.Errorf("as it happens: %v", err)
		}
		<-a.Done()
		if err := a.Sum(summary, 0); err != nil {
			t.Errorf("at the end: %v", err)
		}
	}})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var told record.Record
	if _, err := client.Attach(t.Context(), Hello{Each: true}, files(t), func(r *record.Record) { told = *r }); err != nil {
		t.Fatal(err)
	}
	if got, _, err := client.Finish(); err != nil || len(got.Entries) != 1 || got.Entries[0].Last != r || told != r {
		t.Errorf("it came as %+v and %+v, %v", told, got, err)
	}
}
