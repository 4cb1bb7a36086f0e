package kubeapi

import (
	"reflect"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/format/shape"
)

func TestTheShapeOfTheRulesIsThatOfTheStoresFormat(t *testing.T) {
	var specs []any
	for _, kind := range api.Kinds() {
		specs = append(specs, reflect.ValueOf(kind.NewSpec()).Elem().Interface())
	}
	shape.Check(t, "rules", storeFormat, specs...)
}
