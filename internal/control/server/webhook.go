package server

import (
	"context"
	"fmt"
	"net"

	v1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	"k8s.io/client-go/rest"

	hooks "sluice.dev/sluice/deploy/webhook"
	"sluice.dev/sluice/internal/kube/admission"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/kube/injector"
	"sluice.dev/sluice/internal/kube/webhook"
)

// serveWebhook answers the API server of the cluster, which asks about each rule that is
// written and each Pod that is to have a sidecar, and keeps our authority in its
// configurations, until ctx ends. The plane is there by then: it knows the warnings, and what
// the MeshConfig allows.
func (s *Cluster) serveWebhook(ctx context.Context, access *rest.Config) error {
	registered, err := v1.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("reach the configuration of the webhook: %w", err)
	}
	config := s.tls()
	config.NextProtos = nil // HTTP's own
	hook, err := webhook.New(webhook.Config{
		TLS: config, Log: s.config.Log.With("component", "webhook"),
		Reviewers: map[string]webhook.Reviewer{
			hooks.Path: admission.Rules{Warn: s.plane.WarningsOf}.Review,
			hooks.InjectPath: injector.Pods{Options: func() inject.Options {
				options := s.config.Sidecar
				options.AllowBypass = s.plane.AllowsBypass()
				return options
			}}.Review,
		},
	})
	if err != nil {
		return err
	}
	if s.webhook, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.WebhookListen); err != nil {
		return fmt.Errorf("open --webhook-listen: %w", err)
	}
	keeper := &webhook.Keeper{
		API: registered, Validating: []string{hooks.Configuration}, Mutating: []string{hooks.Configuration},
		CA: s.authority.CA, Log: s.config.Log.With("component", "webhook"),
	}
	s.running.Go(func() { keeper.Run(ctx) })
	s.serving.Go(func() {
		if err := hook.Serve(ctx, s.webhook); err != nil {
			s.failed <- err
		}
	})
	return nil
}

// WebhookAddress is where the API server's questions are answered.
func (s *Cluster) WebhookAddress() string { return s.webhook.Addr().String() }
