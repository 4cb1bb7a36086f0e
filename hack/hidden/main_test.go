package main

import (
	"os"
	"testing"
)

func TestTheListThatTheCommandsHaveIsTheFileThatPeopleRead(t *testing.T) {
	want, err := generate("../../rules/hidden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("../../rules/hidden_list.go"); err != nil || string(got) != string(want) {
		t.Errorf("rules/hidden_list.go is stale: run make generate (%v)", err)
	}
}

func TestAListWithAnUnknownFieldIsRefused(t *testing.T) {
	file := t.TempDir() + "/list.yaml"
	if err := os.WriteFile(file, []byte("hidden:\n- {path: a, wat: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := generate(file); err == nil {
		t.Error("a field that nobody reads is taken")
	}
}
