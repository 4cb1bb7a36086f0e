package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/attach"
	"sluice.dev/sluice/internal/proxy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/wire"
)

// errInUse is what listening on a served socket says.
var errInUse = error(unix.EADDRINUSE)

// attached serves one sandbox from its hello to its end.
func (d *daemon) attached(ctx context.Context, a *attach.Attachment) {
	select {
	case <-d.stopping:
		a.Refuse("the proxy is shutting down")
		return
	default:
	}
	m, err := d.join(ctx, a.Hello.Workload, snapshot.NewHolder(snapshot.HolderConfig{}))
	if err != nil {
		d.log.Warn("a sandbox was refused", "service", a.Hello.Service, "version", a.Hello.Version, "error", err)
		a.Refuse(err.Error())
		return
	}
	defer m.leave()
	table, save := d.names(m.workload)
	var each func(*record.Record) error
	if a.Hello.Each {
		each = a.Tell
	}
	collected := report.NewCollector(each)
	w, err := d.proxy.Attach(ctx, proxy.WorkloadConfig{Workload: m.workload, Capture: a.Capture, Holder: m.holder, Names: table, Sink: collected})
	if err != nil {
		a.Refuse(err.Error())
		return
	}
	defer save()
	defer w.Close()
	d.log.Info("attached", "workload", m.workload.Instance, "level", m.workload.Level, "pid", m.workload.PID)
	defer d.log.Info("detached", "workload", m.workload.Instance)
	if err := a.Welcome(attach.Welcome{Instance: m.workload.Instance, Search: m.holder.Load().Directory.SearchText()}); err != nil {
		return
	}
	collected.Begin()
	defer func() {
		w.Close() // each connection has its record now
		if summary := collected.End(); a.Asked() {
			a.Sum(summary, collected.Dropped()) // an error says that the client is gone
		}
	}()
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-a.Done():
			return
		case <-ctx.Done():
			return
		case unready := <-a.Unready():
			w.SetUnready(unready)
			if err := m.report(unready); err != nil {
				d.log.Warn("which ports of a workload are ready could not be reported", "workload", m.workload.Instance, "error", err)
			}
		case <-tick.C:
			save()
		}
	}
}

// member is a workload that joined, with the snapshot that it runs.
type member struct {
	workload wire.Workload
	holder   *snapshot.Holder
	report   func([]wire.Unready) error // to the server, at a pace
	leave    func()
}

// join joins a workload and follows what the server sends into the holder, until leave.
func (d *daemon) join(ctx context.Context, hello wire.Workload, holder *snapshot.Holder) (*member, error) {
	membership, err := d.client.Join(context.WithoutCancel(ctx), hello)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	select {
	case <-membership.Joined():
	case <-wait.Done():
		err := membership.Err()
		membership.Leave()
		if err == nil {
			err = errors.New("it does not answer")
		}
		return nil, fmt.Errorf("the server did not accept the workload within %v: %w", joinTime, err)
	}
	workload, err := hello.Normalize()
	if err != nil {
		membership.Leave()
		return nil, err
	}
	workload.Instance, workload.Proxy = membership.Instance(), d.options.name
	first := make(chan struct{})
	stop := holder.OnSwap(func(*snapshot.Snapshot) {
		select {
		case <-first:
		default:
			close(first)
		}
	})
	defer stop()
	followed := make(chan struct{})
	follow, end := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(followed)
		snapshot.Follow(follow, snapshot.FollowConfig{
			Source: membership, Holder: holder, Builder: &d.builder, View: snapshot.View{Namespace: workload.Namespace},
			Store: d.kept, Key: workload.ClassKey(), Log: d.log.With("workload", workload.Instance),
		})
	}()
	m := &member{workload: workload, holder: holder, report: membership.Report, leave: func() {
		membership.Leave()
		end()
		<-followed
	}}
	select {
	case <-first:
		return m, nil
	case <-wait.Done():
		m.leave()
		return nil, fmt.Errorf("the server sent no rules within %v", joinTime)
	}
}
