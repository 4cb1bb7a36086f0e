package kubeapi

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
	controllerlog "sigs.k8s.io/controller-runtime/pkg/log"
)

// kubernetesLogs is where Kubernetes' libraries log, which know one logger for
// the whole process. It is installed once and leads to the Server that runs.
var kubernetesLogs struct {
	install sync.Once
	target  atomic.Pointer[demoted]
}

// routeLogs sends what Kubernetes' libraries log to log. Their "info" tells of
// their own inner life (and klog passes its warnings as that too), so it becomes
// debug; so does everything once the value that is returned is true.
func routeLogs(log *slog.Logger) *atomic.Bool {
	all := new(atomic.Bool)
	kubernetesLogs.target.Store(&demoted{log.With("component", "kubernetes").Handler(), all})
	kubernetesLogs.install.Do(func() {
		klog.LogToStderr(false)
		klog.SetSlogLogger(slog.New(routed{}))
		controllerlog.SetLogger(logr.FromSlogHandler(routed{}))
		klog.OsExit = endGoroutine
	})
	return all
}

// RouteLogs sends what Kubernetes' libraries log to log, for a server whose rules are
// elsewhere. The function that it returns makes all of it debug: what is cut off at the end
// is not reported.
func RouteLogs(log *slog.Logger) (quiet func()) {
	all := routeLogs(log)
	return func() { all.Store(true) }
}

// routed hands records to the target of the moment.
type routed struct {
	with func(slog.Handler) slog.Handler
}

func (r routed) handler() slog.Handler {
	if r.with == nil {
		return kubernetesLogs.target.Load()
	}
	return r.with(kubernetesLogs.target.Load())
}

func (r routed) Enabled(ctx context.Context, level slog.Level) bool {
	return kubernetesLogs.target.Load().Enabled(ctx, level)
}

func (r routed) Handle(ctx context.Context, record slog.Record) error {
	return r.handler().Handle(ctx, record)
}

func (r routed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return r.after(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (r routed) WithGroup(name string) slog.Handler {
	return r.after(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (r routed) after(with func(slog.Handler) slog.Handler) slog.Handler {
	before := r.with
	if before == nil {
		return routed{with}
	}
	return routed{func(h slog.Handler) slog.Handler { return with(before(h)) }}
}

// endGoroutine takes the place of os.Exit where Kubernetes finds that it cannot
// go on. That is so when a part of it does not come up, or is stopped before it
// did; Start then runs into its deadline and says why in words of ours.
func endGoroutine(int) { runtime.Goexit() }

// demoted turns everything below a warning into debug, and while all is true the
// rest too.
type demoted struct {
	slog.Handler
	all *atomic.Bool
}

func (d demoted) Enabled(ctx context.Context, level slog.Level) bool {
	return d.Handler.Enabled(ctx, d.demote(level))
}

func (d demoted) Handle(ctx context.Context, record slog.Record) error {
	// klog asks for errors only after the fact.
	if record.Level = d.demote(record.Level); !d.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return d.Handler.Handle(ctx, record)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs), d.all}
}

func (d demoted) WithGroup(name string) slog.Handler {
	return demoted{d.Handler.WithGroup(name), d.all}
}

func (d demoted) demote(level slog.Level) slog.Level {
	if level < slog.LevelWarn || d.all.Load() {
		return slog.LevelDebug
	}
	return level
}

// etcdNoise is what etcd warns of at every start, or at the first one, though it
// is as it should be here: it stays for who debugs.
var etcdNoise = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true, // nothing listens
	"simple token is not cryptographically signed":                                         true, // there are no tokens
	"Failed to detect schema version":                                                      true, // of an empty store
	"failed to update storage version":                                                     true, // of an empty store
}

// zapToSlog is the logger that etcd is given. Where etcd would end the process it
// panics instead, which startEtcd turns into an error.
func zapToSlog(log *slog.Logger) *zap.Logger {
	return zap.New(&slogCore{demoted{log.With("component", "etcd").Handler(), new(atomic.Bool)}}, zap.WithFatalHook(zapcore.WriteThenPanic))
}

// slogCore is a zapcore.Core that writes to a slog.Handler.
type slogCore struct{ handler slog.Handler }

func (c *slogCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), slogLevel(level))
}

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{c.handler.WithAttrs(slogAttrs(fields))}
}

func (c *slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c *slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slogLevel(entry.Level)
	if etcdNoise[entry.Message] {
		level = slog.LevelDebug
		if !c.handler.Enabled(context.Background(), level) {
			return nil
		}
	}
	record := slog.NewRecord(entry.Time, level, entry.Message, 0)
	record.AddAttrs(slogAttrs(fields)...)
	return c.handler.Handle(context.Background(), record)
}

func (c *slogCore) Sync() error { return nil }

func slogAttrs(fields []zapcore.Field) []slog.Attr {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	attrs := make([]slog.Attr, 0, len(encoder.Fields))
	for key, value := range encoder.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	return attrs
}

// slogLevel maps zap's levels; those above error panic or exit once written.
func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level <= zapcore.DebugLevel:
		return slog.LevelDebug
	case level == zapcore.InfoLevel:
		return slog.LevelInfo
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}
