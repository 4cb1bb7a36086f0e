package kubeapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"
)

const (
	// definitionHash is the annotation that says which text a stored CRD was made
	// of, so that a warm start writes nothing.
	definitionHash = "sluice.dev/definition-hash"
	// fieldManager is who we are in server-side apply.
	fieldManager = "sluice-server"
	// pollEvery is how often a condition of our own process is looked at.
	pollEvery = 2 * time.Millisecond
)

// readDefinitions parses every YAML document of files.
func readDefinitions(files fs.FS) ([]*apiextensions.CustomResourceDefinition, error) {
	var definitions []*apiextensions.CustomResourceDefinition
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	alone, err := fs.Glob(files, "alone/*.yaml") // of kinds that a cluster has itself
	if err != nil {
		return nil, err
	}
	names = append(names, alone...)
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			if len(bytes.TrimSpace(document)) == 0 {
				continue
			}
			definition := new(apiextensions.CustomResourceDefinition)
			if err := yaml.UnmarshalStrict(document, definition); err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			if definition.Kind != "CustomResourceDefinition" {
				continue // generators write comments and lists of their own beside
			}
			sum := sha256.Sum256(document)
			if definition.Annotations == nil {
				definition.Annotations = make(map[string]string)
			}
			definition.Annotations[definitionHash] = hex.EncodeToString(sum[:])
			dropExpressions(definition)
			definitions = append(definitions, definition)
		}
	}
	if len(definitions) == 0 {
		return nil, errors.New("no CustomResourceDefinition among the files")
	}
	return definitions, nil
}

// dropExpressions removes the rules in CEL. They hold on a cluster while its webhook is not
// asked; here everything is validated before, in our own words, and to compile and run them
// would cost each start and each write.
func dropExpressions(definition *apiextensions.CustomResourceDefinition) {
	var drop func(*apiextensions.JSONSchemaProps)
	drop = func(schema *apiextensions.JSONSchemaProps) {
		schema.XValidations = nil
		for name, property := range schema.Properties {
			drop(&property)
			schema.Properties[name] = property
		}
		if schema.Items != nil && schema.Items.Schema != nil {
			drop(schema.Items.Schema)
		}
		if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
			drop(schema.AdditionalProperties.Schema)
		}
	}
	for i := range definition.Spec.Versions {
		if schema := definition.Spec.Versions[i].Schema; schema != nil && schema.OpenAPIV3Schema != nil {
			drop(schema.OpenAPIV3Schema)
		}
	}
}

// ensureDefinitions brings the stored CRDs to the text of ours and waits until
// objects of every one can be created without delay.
func ensureDefinitions(ctx context.Context, client clientset.Interface, lister listers.CustomResourceDefinitionLister, definitions []*apiextensions.CustomResourceDefinition) error {
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	for _, definition := range definitions {
		stored, err := lister.Get(definition.Name)
		if err == nil && stored.Annotations[definitionHash] == definition.Annotations[definitionHash] {
			continue
		}
		body, err := yaml.Marshal(definition)
		if err != nil {
			return err
		}
		if _, err := crds.Patch(ctx, definition.Name, types.ApplyYAMLPatchType, body,
			metav1.PatchOptions{FieldManager: fieldManager, Force: new(true)}); err != nil {
			return fmt.Errorf("apply the definition of %s: %w", definition.Name, err)
		}
	}
	for _, definition := range definitions {
		if err := waitEstablished(ctx, lister, definition.Name); err != nil {
			return err
		}
		if err := backdateEstablished(ctx, client, definition.Name); err != nil {
			return fmt.Errorf("finish the definition of %s: %w", definition.Name, err)
		}
	}
	return poll(ctx, func() (bool, error) {
		for _, definition := range definitions {
			stored, err := lister.Get(definition.Name)
			if err != nil || time.Since(establishedAt(stored)) < establishedHold {
				return false, nil
			}
		}
		return true, nil
	})
}

func waitEstablished(ctx context.Context, lister listers.CustomResourceDefinitionLister, name string) error {
	err := poll(ctx, func() (bool, error) {
		stored, err := lister.Get(name)
		if err != nil {
			return false, nil // not seen yet
		}
		if refused := apihelpers.FindCRDCondition(stored, apiextensions.NamesAccepted); refused != nil && refused.Status == apiextensions.ConditionFalse {
			return false, fmt.Errorf("the names of %s are taken: %s", name, refused.Message)
		}
		return apihelpers.IsCRDConditionTrue(stored, apiextensions.Established), nil
	})
	if err != nil {
		return fmt.Errorf("establish %s: %w", name, err)
	}
	return nil
}

// establishedHold is how long the server holds creates of a kind whose CRD was
// just established, so that other servers of a cluster come to know it.
const establishedHold = 2 * time.Second

func establishedAt(definition *apiextensions.CustomResourceDefinition) time.Time {
	condition := apihelpers.FindCRDCondition(definition, apiextensions.Established)
	if condition == nil {
		return time.Now()
	}
	return condition.LastTransitionTime.Time
}

// backdateEstablished makes the server believe that the CRD was established long ago.
// This server is the only one, so nobody has to come to know it, and the first
// create need not wait. On a cluster this would be wrong.
func backdateEstablished(ctx context.Context, client clientset.Interface, name string) error {
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		stored, err := crds.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if time.Since(establishedAt(stored)) >= establishedHold {
			return nil
		}
		i := slices.IndexFunc(stored.Status.Conditions, func(c apiextensions.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensions.Established
		})
		if i < 0 {
			return apierrors.NewConflict(apiextensions.Resource("customresourcedefinitions"), name, errors.New("not established"))
		}
		stored.Status.Conditions[i].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Hour))
		_, err = crds.UpdateStatus(ctx, stored, metav1.UpdateOptions{})
		return err
	})
}

// poll calls done until it is true, fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
