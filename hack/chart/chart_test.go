package chart

import (
	"fmt"
	"io"
	"log"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"

	ours "sluice.dev/sluice/internal/kube/chart"
)

const folder = "../../deploy/helm"

func load(t *testing.T, from string) *v2.Chart {
	t.Helper()
	log.SetOutput(io.Discard) // it says of each link that it is one
	loaded, err := loader.Load(from)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// rendered is what Helm makes of the chart, by name.
func rendered(t *testing.T, chart *v2.Chart, namespace string, values map[string]any) (map[string]map[string]any, error) {
	t.Helper()
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "sluice", Namespace: namespace, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := new(engine.Engine).Render(chart, all)
	if err != nil {
		return nil, err
	}
	objects := make(map[string]map[string]any)
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for document := range strings.SplitSeq("\n"+text, "\n---") {
			add(t, objects, document)
		}
	}
	return objects, nil
}

func add(t *testing.T, to map[string]map[string]any, document string) {
	t.Helper()
	var object map[string]any
	if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
		t.Fatalf("%v in:\n%s", err, document)
	}
	if len(object) == 0 {
		return
	}
	metadata := object["metadata"].(map[string]any)
	key := fmt.Sprint(object["apiVersion"], " ", object["kind"], " ", metadata["name"])
	if to[key] != nil {
		t.Errorf("%s is there twice", key)
	}
	to[key] = object
}

// sets are values that between them reach each branch of the templates.
var sets = map[string]string{
	"nothing":  `{}`,
	"all":      `{hub: registry.test:5000/mesh, tag: "1.0", imagePullPolicy: Never, imagePullSecrets: [{name: a}], replicas: 3, createNamespace: true, crds: {keep: true}, logLevel: debug, logFormat: json, clusterDomain: example.test, podAnnotations: {a: "1", b: "yes: no"}, nodeSelector: {disk: ssd}, tolerations: [{key: a, operator: Exists}], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}, priorityClassName: system-cluster-critical}`,
	"less":     `{crds: {install: false}, replicas: 1, resources: {limits: {cpu: "1"}}}`,
	"bare":     `{resources: null, podAnnotations: null}`,
	"in parts": `{crds: {keep: false}, tag: v1}`,
}

func TestHelmAndSluiceInstallMakeTheSameObjects(t *testing.T) {
	chart := load(t, folder)
	for name, text := range sets {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		helm, err := rendered(t, chart, ours.Namespace, values)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		given, err := ours.ReadValues("values", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		objects, err := ours.Render("devel", given)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sluice := make(map[string]map[string]any)
		for document := range strings.SplitSeq("\n"+ours.Text(objects), "\n---") {
			add(t, sluice, document)
		}
		if len(helm) < 10 || len(helm) != len(sluice) {
			t.Errorf("%s: %d objects of Helm, %d of sluice install", name, len(helm), len(sluice))
		}
		for key, object := range helm {
			if !reflect.DeepEqual(object, sluice[key]) {
				t.Errorf("%s: %s\n of Helm:           %v\n of sluice install: %v", name, key, object, sluice[key])
			}
		}
	}
}

func TestHelmsLinterHasNothingToSay(t *testing.T) {
	log.SetOutput(io.Discard)
	for name, text := range sets {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		found := lint.RunAll(folder, values, ours.Namespace)
		for _, message := range found.Messages {
			if message.Severity > support.InfoSev { // it wants an icon
				t.Errorf("%s: %v", name, message)
			}
		}
	}
}

func TestAPackagedChartIsWhole(t *testing.T) {
	chart := load(t, folder)
	archive, err := chartutil.Save(chart, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again := load(t, archive)
	for _, file := range append(slices.Clone(again.Files), again.Raw...) {
		if filepath.Ext(file.Name) == ".go" {
			t.Errorf("%s is in the chart", file.Name)
		}
	}
	before, err := rendered(t, chart, ours.Namespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := rendered(t, again, ours.Namespace, nil)
	if err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("from the archive: %v\n%v\n%v", err, before, after)
	}
}

func TestHelmAndSluiceInstallRefuseTheSameValues(t *testing.T) {
	chart := load(t, folder)
	for text, valid := range map[string]bool{
		`{}`: true, `{replicas: 1}`: true, `{replicas: 0}`: false, `{replicas: 101}`: false, `{replicas: 1.5}`: false, `{replicas: "2"}`: false,
		`{imagePullPolicy: always}`: false, `{hub: ""}`: false, `{hub: "a b"}`: false, `{tag: "-x"}`: false, `{tag: 1.0}`: false,
		`{logLevel: loud}`: false, `{logFormat: xml}`: false, `{clusterDomain: "a.b."}`: false, `{nothing: 1}`: false, `{crds: {all: true}}`: false,
		`{crds: true}`: false, `{imagePullSecrets: [a]}`: false, `{imagePullSecrets: [{}]}`: false, `{imagePullSecrets: [{name: ""}]}`: false,
		`{tolerations: {}}`: false, `{global: {anything: 1}}`: true, `{createNamespace: "true"}`: false, `{resources: {}}`: true,
		`{hub: null}`: false, `{crds: null}`: false, `{crds: {keep: null}}`: false, `{affinity: null}`: true,
	} {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		_, helm := rendered(t, chart, ours.Namespace, values)
		given, err := ours.ReadValues("values", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, sluice := ours.Render("devel", given)
		if valid != (helm == nil) || valid != (sluice == nil) {
			t.Errorf("%s is valid: %t; Helm says %v; sluice install says %v", text, valid, helm, sluice)
		}
	}
}

func TestTheChartIsInstalledIntoItsNamespaceAlone(t *testing.T) {
	if _, err := rendered(t, load(t, folder), "default", nil); err == nil || !strings.Contains(err.Error(), "--namespace "+ours.Namespace) {
		t.Error(err)
	}
}
