package kubeapi

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestARuleIsCreatedReadListedAndDeletedOverTheSocket(t *testing.T) {
	begin := time.Now()
	s := start(t, "", acceptAll)
	t.Logf("cold start: %v", time.Since(begin))
	begin = time.Now()
	s.create(t, "googleapis", "*.googleapis.com")
	t.Logf("first create: %v", time.Since(begin))
	if code, body := s.do(t, "GET", egressRules+"/googleapis", "", ""); code != http.StatusOK || !strings.Contains(body, `"service":"*.googleapis.com"`) {
		t.Errorf("get: %d %s", code, body)
	}
	if code, body := s.do(t, "POST", egressRules, "application/json", egressRule("googleapis", "*.googleapis.com")); code != http.StatusConflict {
		t.Errorf("second create: %d %s", code, body)
	}
	if code, body := s.do(t, "DELETE", egressRules+"/googleapis", "", ""); code != http.StatusOK {
		t.Errorf("delete: %d %s", code, body)
	}
	if code, _ := s.do(t, "GET", egressRules+"/googleapis", "", ""); code != http.StatusNotFound {
		t.Errorf("get after delete: %d", code)
	}
	begin = time.Now()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("stop: %v", time.Since(begin))
}
