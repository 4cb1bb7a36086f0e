package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"sluice.dev/sluice/internal/telemetry/accesslog"
	"sluice.dev/sluice/internal/telemetry/metrics"
	"sluice.dev/sluice/internal/telemetry/otlp"
)

// accessOptions are the flags of the access log.
type accessOptions struct {
	to     string // a file, "-" or "otlp"; "": none
	format string
	sample float64 // percent
}

// toCollector is what --access-log says where lines go to the collector of --otlp.
const toCollector = "otlp"

func (o *accessOptions) validate(changed func(flag string) bool, collector string) error {
	if o.to == "" {
		for _, flag := range []string{"access-log-format", "access-log-sample"} {
			if changed(flag) {
				return fmt.Errorf("--%s needs --access-log", flag)
			}
		}
		return nil
	}
	if o.sample < 0 || o.sample > 100 {
		return fmt.Errorf("--access-log-sample %v is not a number from 0 to 100", o.sample)
	}
	if o.to == toCollector {
		switch {
		case collector == "":
			return errors.New("--access-log otlp needs --otlp")
		case o.format != accesslog.JSON:
			return errors.New("--access-log-format makes no sense with --access-log otlp, which sends attributes")
		}
	}
	if _, err := accesslog.ParseFormat(o.format); err != nil {
		return fmt.Errorf("--access-log-format: %w", err)
	}
	return nil
}

// openCollector makes the way to the collector of --otlp.
func (d *daemon) openCollector() (err error) {
	if d.options.otlp == "" {
		return nil
	}
	d.collector, err = otlp.New(otlp.Config{URL: d.options.otlp, Service: "sluice-proxy", Instance: d.options.name, Log: d.log})
	if err != nil {
		return fmt.Errorf("--otlp: %w", err)
	}
	return nil
}

// openAccessLog opens the log of --access-log.
func (d *daemon) openAccessLog(ctx context.Context) error {
	o := &d.options.access
	var to accesslog.Output
	format, err := accesslog.ParseFormat(o.format)
	switch {
	case o.to == "":
		return nil
	case err != nil:
	case o.to == toCollector:
		to, err = d.collector.Logs(ctx)
	case o.to == "-":
		to = accesslog.NewLines(os.Stdout, format)
	default:
		var lines *accesslog.Lines
		if lines, err = accesslog.OpenFile(o.to, format); err == nil {
			d.reopened = lines
			to = lines
		}
	}
	if err != nil {
		return fmt.Errorf("--access-log: %w", err)
	}
	d.access, err = accesslog.Open(accesslog.Config{To: to, Sample: o.sample / 100, Log: d.log})
	return err
}

// reopen opens the file of the access log anew at each SIGHUP, until ctx ends. Where there
// is none the signal ends the process, as it always does.
func (d *daemon) reopen(ctx context.Context, work *sync.WaitGroup) {
	if d.reopened == nil {
		return
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	work.Go(func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			if err := d.reopened.Reopen(); err != nil {
				d.log.Error("the access log goes on in the old file", "error", err)
			} else {
				d.log.Info("the access log was opened anew", "file", d.options.access.to)
			}
		}
	})
}

// endSeen writes and sends what waits.
func (d *daemon) endSeen() {
	if d.spans != nil {
		d.spans.End()
	}
	if d.access == nil {
		return
	}
	if err := d.access.End(); err != nil {
		d.log.Warn("the end of the access log", "error", err)
	}
}

// openSpans opens the way of sampled traces to the collector of --otlp.
func (d *daemon) openSpans(ctx context.Context) (err error) {
	if d.collector == nil {
		return nil
	}
	if d.spans, err = d.collector.Spans(ctx); err != nil {
		return fmt.Errorf("--otlp: %w", err)
	}
	return nil
}

// countSpans adds what became of spans.
func (d *daemon) countSpans(s *metrics.State) {
	s.Counter("sluice_spans_total", "Spans of sampled traces by what became of them: sent; lost by the collector; dropped, for too many waited.", []string{"outcome"}, func(show func(float64, ...string)) {
		if d.spans == nil {
			return
		}
		of := d.spans.Counts()
		for outcome, n := range map[string]uint64{"sent": of.Sent, "lost": of.Lost, "dropped": of.Dropped} {
			show(float64(n), outcome)
		}
	})
}

// countAccessLog adds what became of its lines.
func (d *daemon) countAccessLog(s *metrics.State) {
	s.Counter("sluice_access_log_lines_total", "Lines of the access log by what became of them: written; lost by the file or collector; dropped because too many waited; or left out by the sample (sampled).", []string{"outcome"}, func(show func(float64, ...string)) {
		if d.access == nil {
			return
		}
		of := d.access.Counts()
		for outcome, n := range map[string]uint64{"written": of.Written, "lost": of.Lost, "dropped": of.Dropped, "sampled": of.Sampled} {
			show(float64(n), outcome)
		}
	})
}
