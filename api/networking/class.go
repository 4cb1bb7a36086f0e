package networking

import (
	"cmp"
	"slices"
)

// Class returns the class of an Ingress, by its spec or its annotations; "" where neither
// says one.
func (s *IngressSpec) Class(annotations map[string]string) string {
	return cmp.Or(s.IngressClassName, annotations[ClassAnnotation])
}

// Foreign reports whether an Ingress says that it is of a class that is not ours.
func (s *IngressSpec) Foreign(annotations map[string]string) bool {
	class := s.Class(annotations)
	return class != "" && !slices.Contains(Classes, class)
}
