package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsServer answers Prometheus until Close.
type metricsServer struct {
	http     http.Server
	listener net.Listener
	done     chan struct{}
}

func serveMetrics(addr string, registry *prometheus.Registry, log *slog.Logger) (*metricsServer, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	m := &metricsServer{
		http: http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 5 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       time.Minute,
		},
		listener: listener,
		done:     make(chan struct{}),
	}
	go func() {
		defer close(m.done)
		if err := m.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics ended", "error", err)
		}
	}()
	return m, nil
}

// Addr is the host and port listened on.
func (m *metricsServer) Addr() string { return m.listener.Addr().String() }

// Close ends the server at once.
func (m *metricsServer) Close() {
	m.http.Close()
	<-m.done
}
