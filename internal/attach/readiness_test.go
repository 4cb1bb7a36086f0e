package attach

import (
	"context"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/wire"
)

// reporting hands what each attachment says of its ports to said.
func reporting(said chan<- []wire.Unready) func(context.Context, *Attachment) {
	return func(ctx context.Context, a *Attachment) {
		said <- a.Hello.Unready
		a.Welcome(Welcome{})
		for {
			select {
			case unready := <-a.Unready():
				said <- unready
			case <-a.Done():
				if a.Asked() {
					said <- nil
				}
				close(said)
				return
			}
		}
	}
}

func TestTheProxyLearnsWhichPortsAreReadyUntilTheCommandEnds(t *testing.T) {
	said := make(chan []wire.Unready)
	path, _ := serve(t, ServerConfig{Handle: reporting(said)})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	since := time.Now().UTC()
	both := []wire.Unready{{Port: 8000, Since: since}, {Port: 9080, Since: since}}
	attached := make(chan error, 1)
	go func() {
		_, err := client.Attach(t.Context(), Hello{Workload: wire.Workload{Ports: []uint16{8000, 9080}, Unready: both}}, files(t), nil)
		attached <- err
	}()
	if got := <-said; !wire.SameUnready(got, both) {
		t.Errorf("the hello says %v", got)
	}
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]wire.Unready{both[:1], nil, {{Port: 9080, Since: since, Why: "GET /health was answered with 500"}}} {
		if err := client.Report(want); err != nil {
			t.Fatal(err)
		}
		if got := <-said; !wire.SameUnready(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	client.Finish() // the handler says nothing of connections
	if _, asked := <-said; !asked {
		t.Error("the last word was not heard after others")
	}
}

func TestWhoIsSlowSeesTheLastOfSeveralReports(t *testing.T) {
	a := make(chan *Attachment)
	path, _ := serve(t, ServerConfig{Handle: func(ctx context.Context, attached *Attachment) {
		attached.Welcome(Welcome{})
		a <- attached
		<-ctx.Done()
	}})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	welcomed := make(chan error, 1)
	go func() {
		_, err := client.Attach(t.Context(), Hello{Workload: wire.Workload{Ports: []uint16{80}}}, files(t), nil)
		welcomed <- err
	}()
	attached := <-a
	if err := <-welcomed; err != nil { // Report is for after Attach
		t.Fatal(err)
	}
	for i := range 100 {
		if err := client.Report([]wire.Unready{{Port: 80, Since: time.Unix(int64(i), 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	seqpacket.Send(client.conn, word{Finish: true})
	<-attached.Done()
	if got := <-attached.Unready(); len(got) != 1 || got[0].Since.Unix() != 99 {
		t.Errorf("got %v", got)
	}
}

func TestAReportThatMakesNoSenseEndsTheAttachment(t *testing.T) {
	for what, unready := range map[string][]wire.Unready{
		"of a port that is not served": {{Port: 81}},
		"with a line of its own":       {{Port: 80, Why: "a\nb"}},
	} {
		path, _ := serve(t, ServerConfig{Handle: welcoming})
		client, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Attach(t.Context(), Hello{Workload: wire.Workload{Ports: []uint16{80}}}, files(t), nil); err != nil {
			t.Fatal(err)
		}
		client.Report(unready)
		select {
		case <-client.Done():
		case <-time.After(time.Minute):
			t.Errorf("%s: it goes on", what)
		}
		client.Close()
	}
}

// A sluice of before says nothing of its ports: they take calls.
func TestAnEarlierClientIsReady(t *testing.T) {
	said := make(chan []wire.Unready, 2)
	path, _ := serve(t, ServerConfig{Handle: reporting(said)})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sockets := files(t)
	defer capture.CloseFiles(sockets)
	var descriptors []int
	for _, file := range sockets {
		descriptors = append(descriptors, int(file.Fd()))
	}
	earlier := map[string]any{"format": 2, "service": "details", "namespace": "default", "ports": []int{9080}, "level": "sandbox", "instance": "", "proxy": ""}
	if err := seqpacket.Send(client.conn, earlier, descriptors...); err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if _, err := seqpacket.Receive(client.conn, &answer, 0); err != nil || answer["error"] != nil {
		t.Fatalf("%v, %v", answer, err)
	}
	if got := <-said; len(got) != 0 {
		t.Errorf("not ready: %v", got)
	}
}
