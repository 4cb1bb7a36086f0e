package compile

import (
	"sluice.dev/sluice/api"
)

// objectSet is the objects of the last input and what each came to. Only a Compiler uses it.
type objectSet struct {
	domain  string
	objects []compiledObject // in the order of the input
}

type objectKey struct{ apiVersion, kind, namespace, name string }

// compiledObject is valid while the spec is the same value, or the store says that
// it is the same version of the same object.
type compiledObject struct {
	key          objectKey
	spec         any
	uid, version string
	compiled     *compiled
}

// is reports whether an object of an input is the one that was compiled.
func (c *compiledObject) is(object *api.Object) bool {
	meta := &object.Metadata
	if c.key.name != meta.Name || c.key.namespace != meta.Namespace || c.key.kind != object.Kind || c.key.apiVersion != object.APIVersion {
		return false
	}
	sameVersion := meta.UID != "" && meta.UID == c.uid && meta.ResourceVersion != "" && meta.ResourceVersion == c.version
	return sameVersion || object.Spec != nil && object.Spec == c.spec
}

func keyOf(object *api.Object) objectKey {
	return objectKey{object.APIVersion, object.Kind, object.Metadata.Namespace, object.Metadata.Name}
}

// take takes the objects of an input and compiles those that the last one did not have. It
// returns what all came to, and what of it is gone and new. An object that stands where it
// stood costs a comparison.
func (s *objectSet) take(objects []api.Object) (all, gone, added []*compiled) {
	all = make([]*compiled, len(objects))
	var elsewhere []int
	for i := range objects {
		if i < len(s.objects) && s.objects[i].is(&objects[i]) {
			all[i] = s.objects[i].compiled
		} else {
			elsewhere = append(elsewhere, i)
		}
	}
	left := make(map[objectKey][]compiledObject)
	leave := func(i int) { left[s.objects[i].key] = append(left[s.objects[i].key], s.objects[i]) }
	for _, i := range elsewhere {
		if i < len(s.objects) {
			leave(i)
		}
	}
	for i := len(objects); i < len(s.objects); i++ {
		leave(i)
	}
	for len(s.objects) < len(objects) {
		s.objects = append(s.objects, compiledObject{})
	}
	clear(s.objects[len(objects):])
	s.objects = s.objects[:len(objects)]
	for _, i := range elsewhere {
		object := &objects[i]
		fresh := compiledObject{key: keyOf(object), spec: object.Spec, uid: object.Metadata.UID, version: object.Metadata.ResourceVersion}
		known := left[fresh.key]
		for k := range known {
			if known[k].is(object) {
				fresh.compiled = known[k].compiled
				left[fresh.key] = append(known[:k:k], known[k+1:]...)
				break
			}
		}
		if fresh.compiled == nil {
			fresh.compiled = compileObject(object, s.domain)
			added = append(added, fresh.compiled)
		}
		s.objects[i], all[i] = fresh, fresh.compiled
	}
	for _, known := range left {
		for k := range known {
			gone = append(gone, known[k].compiled)
		}
	}
	return all, gone, added
}
