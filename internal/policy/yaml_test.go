package policy

import "sigs.k8s.io/yaml"

// decodeYAML is strict: an unknown field fails.
func decodeYAML(t interface{ Fatalf(string, ...any) }, text string, into any) {
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
}
