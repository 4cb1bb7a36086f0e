package kubeapi

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"k8s.io/klog/v2"
)

func TestWhatTheLibrariesTellIsDebugAndTheirErrorsStay(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	quiet := routeLogs(log)
	klog.Info("inner life")
	klog.Background().WithName("part").WithValues("key", "value").Error(nil, "a failure")
	etcd := zapToSlog(log)
	etcd.Info("inner life")
	etcd.Warn("simple token is not cryptographically signed")
	etcd.With(zap.String("key", "value")).Warn("disk is slow")
	quiet.Store(true)
	klog.Error("cut off by the stop")
	told := out.String()
	for text, want := range map[string]int{
		"inner life": 0, "simple token": 0, "cut off": 0,
		`level=ERROR msg="a failure" component=kubernetes`:       1,
		`level=WARN msg="disk is slow" component=etcd key=value`: 1,
		"key=value": 2,
	} {
		if got := strings.Count(told, text); got != want {
			t.Errorf("%q stands %d times in\n%s", text, got, told)
		}
	}
}
