package kubeapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	crdoptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/client-go/rest"
)

const (
	// requestTimeout bounds a request that is not a watch, its body included.
	requestTimeout = 30 * time.Second
	// maxRequestBody bounds the body of a request, in bytes: an object is far
	// smaller, and etcd takes 1.5 MiB.
	maxRequestBody = 1 << 20
	// maxInFlight bounds the requests that are served at once, of them
	// maxMutatingInFlight writes. At the bound the answer is 429.
	maxInFlight         = 128
	maxMutatingInFlight = 64
)

// crdServer is the CRD server on top of an etcd, without any listener: Handler
// serves it.
type crdServer struct {
	*crdserver.CustomResourceDefinitions
	Handler  http.Handler
	Loopback *rest.Config // for ourselves, over dial

	cancel context.CancelFunc
	done   chan struct{}
	err    error // why it ended; read after done
}

// newCRDServer configures the server by hand: the recommended options would open
// listeners, read kubeconfigs and ask another cluster who may do what.
func newCRDServer(store storage, dial func(context.Context) (net.Conn, error), changes *changes, plugin admission.Interface) (*crdServer, error) {
	backend := storagebackend.NewDefaultConfig("/registry", crdserver.Codecs.LegacyCodec(apiextensions.SchemeGroupVersion))
	store.configure(backend)
	etcdOptions := genericoptions.NewEtcdOptions(backend)
	etcdOptions.EnableWatchCache = false
	etcdOptions.SkipHealthEndpoints = true // one process: there is nothing to ask over a network
	// Nobody reads the counts, and whoever counts goes on after the stop: it asks
	// a client that is closed a hundred times, and says so on standard error.
	etcdOptions.StorageConfig.CountMetricPollPeriod = 0

	config := genericapiserver.NewRecommendedConfig(crdserver.Codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	config.EnableProfiling = false
	config.EnableIndex = false
	config.SharedInformerFactory = nil
	config.FlowControl = nil
	config.RequestTimeout = requestTimeout
	config.MaxRequestBodyBytes = maxRequestBody
	config.MaxRequestsInFlight = maxInFlight
	config.MaxMutatingRequestsInFlight = maxMutatingInFlight
	config.SecureServing = &genericapiserver.SecureServingInfo{Listener: newIdleListener(), DisableHTTP2: true}
	config.LoopbackClientConfig = loopbackConfig(dial)
	config.Authentication.Authenticator = authenticator.RequestFunc(authenticate)
	config.Authorization.Authorizer = authorizer.AuthorizerFunc(authorize)
	config.AdmissionControl = admission.NewChainHandler(plugin, changes)
	config.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return refuseProtobuf(refuseHeavy(genericapiserver.DefaultBuildHandlerChain(changes.note(readableTables(handler)), c)))
	}
	if err := etcdOptions.ApplyTo(&config.Config); err != nil {
		return nil, err
	}
	if err := genericoptions.NewAPIEnablementOptions().ApplyTo(&config.Config, crdserver.DefaultAPIResourceConfigSource(), crdserver.Scheme); err != nil {
		return nil, err
	}
	// Version 2 too: without it the controllers that publish the CRDs' schemas do
	// not start, and `kubectl explain` has nothing to read.
	definitions := openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions)
	namer := openapinamer.NewDefinitionNamer(crdserver.Scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	config.OpenAPIConfig.Info.Title = "Sluice"
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	config.OpenAPIV3Config.Info.Title = "Sluice"

	groups := aggregated.NewResourceManager("apis")
	config.AggregatedDiscoveryGroupManager = groups
	root := &groupDiscovery{}
	server, err := (&crdserver.Config{
		GenericConfig: config,
		ExtraConfig: crdserver.ExtraConfig{
			CRDRESTOptionsGetter: crdoptions.NewCRDRESTOptionsGetter(*etcdOptions, config.ResourceTransformers, config.StorageObjectCountTracker),
			MasterCount:          1,
		},
	}).Complete().New(genericapiserver.NewEmptyDelegateWithCustomHandler(root))
	if err != nil {
		return nil, err
	}
	root.definitions = server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister()
	root.answer = aggregated.WrapAggregatedDiscoveryToHandler(http.HandlerFunc(root.list), groups, groups)
	return &crdServer{
		CustomResourceDefinitions: server,
		Loopback:                  server.GenericAPIServer.LoopbackClientConfig,
		done:                      make(chan struct{}),
	}, nil
}

// Run starts the server's controllers; Drain and Wait end them.
func (s *crdServer) Run(log *slog.Logger) {
	prepared := s.GenericAPIServer.PrepareRun()
	s.Handler = s.GenericAPIServer.Handler
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		s.err = prepared.RunWithContext(ctx)
		if s.err != nil {
			log.Error("the rule API ended", "error", s.err)
		}
	}()
}

// Drain refuses new requests, ends the controllers, and waits until those in
// flight are answered, or ctx ends. The controllers end while the pipe to
// ourselves is still served, or they would report that it broke.
func (s *crdServer) Drain(ctx context.Context) {
	// A server that is asked to end before it came up calls itself broken and ends
	// the process: it may come up first.
	for _, up := range s.GenericAPIServer.MuxAndDiscoveryCompleteSignals() {
		select {
		case <-up:
		case <-ctx.Done():
		}
	}
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}

// Wait waits until all of the server ended.
func (s *crdServer) Wait() error {
	<-s.done
	return s.err
}

// loopbackConfig is how the control plane reaches its own API. It speaks JSON:
// client-go's default, protobuf, is not for CRDs.
func loopbackConfig(dial func(context.Context) (net.Conn, error)) *rest.Config {
	return &rest.Config{
		Host: "http://sluice.invalid",
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		ContentConfig: rest.ContentConfig{
			ContentType:        "application/json",
			AcceptContentTypes: "application/json",
		},
		QPS: -1, // no limit of the client's own
	}
}
