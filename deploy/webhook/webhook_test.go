package webhook

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
)

type configuration struct {
	Kind     string
	Metadata struct{ Name string }
	Webhooks []struct {
		Name              string
		FailurePolicy     string `yaml:"failurePolicy"`
		NamespaceSelector struct {
			MatchExpressions []struct {
				Key, Operator string
				Values        []string
			} `yaml:"matchExpressions"`
		} `yaml:"namespaceSelector"`
		ClientConfig struct{ Service struct{ Path string } } `yaml:"clientConfig"`
		Rules        []struct {
			APIGroups   []string `yaml:"apiGroups"`
			APIVersions []string `yaml:"apiVersions"`
			Resources   []string
			Operations  []string
			Scope       string
		}
	}
}

func TestTheWebhookIsAskedAboutEveryKindAndHoldsUpNothingInItsOwnNamespace(t *testing.T) {
	var found *configuration
	for decoder := yaml.NewDecoder(bytes.NewReader(Manifest)); ; {
		var one configuration
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if one.Kind == "ValidatingWebhookConfiguration" {
			found = &one
		}
	}
	if found == nil || found.Metadata.Name != Configuration || len(found.Webhooks) != 2 {
		t.Fatalf("%+v", found)
	}
	for i, webhook := range found.Webhooks {
		policy, operator := "Fail", "NotIn"
		if i == 1 {
			policy, operator = "Ignore", "In"
		}
		selector := webhook.NamespaceSelector.MatchExpressions
		if webhook.FailurePolicy != policy || len(selector) != 1 || selector[0].Key != "kubernetes.io/metadata.name" ||
			selector[0].Operator != operator || !slices.Equal(selector[0].Values, []string{istio.RootNamespace}) ||
			webhook.ClientConfig.Service.Path != Path {
			t.Errorf("%+v", webhook)
		}
		for _, kind := range api.OnCluster() {
			asked := false
			for _, rule := range webhook.Rules {
				if !slices.Equal(rule.Operations, []string{"CREATE", "UPDATE"}) {
					t.Errorf("%s is asked about %v", webhook.Name, rule.Operations)
				}
				asked = asked || slices.Contains(rule.APIGroups, kind.Group) && slices.Contains(rule.APIVersions, kind.Version) &&
					slices.Contains(rule.Resources, kind.Plural)
			}
			// A selector of namespaces holds for nothing that is in none.
			if want := i == 0 || kind.Namespaced; asked != want {
				t.Errorf("%s is asked about %s: %v", webhook.Name, kind.Plural, asked)
			}
		}
	}
}

func TestPodsAreAskedAboutInNamespacesThatSaySoAndNeverWhereTheServerAndTheClusterRun(t *testing.T) {
	asked := 0
	for decoder := yaml.NewDecoder(bytes.NewReader(InjectManifest)); ; {
		var one configuration
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if one.Kind != "MutatingWebhookConfiguration" {
			continue
		}
		for _, webhook := range one.Webhooks {
			asked++
			selector := webhook.NamespaceSelector.MatchExpressions
			if one.Metadata.Name != Configuration || webhook.FailurePolicy != "Fail" || webhook.ClientConfig.Service.Path != InjectPath || len(selector) != 2 ||
				selector[0].Key != InjectLabel || selector[0].Operator != "In" || !slices.Equal(selector[0].Values, []string{InjectEnabled}) ||
				selector[1].Key != "kubernetes.io/metadata.name" || selector[1].Operator != "NotIn" || !slices.Equal(selector[1].Values, []string{istio.RootNamespace, "kube-system"}) {
				t.Errorf("%+v", webhook)
			}
		}
	}
	if asked != 1 {
		t.Errorf("%d webhooks", asked)
	}
}
