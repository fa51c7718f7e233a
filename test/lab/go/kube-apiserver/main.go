// A kube-apiserver from the sources of Kubernetes, for the real lab only.
package main

import (
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig/metrics"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/component-base/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if strings.HasPrefix(version.Get().GitVersion, "v1.33.") {
		forgetConfigHash()
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}

// forgetConfigHash takes away the metric that came with 1.34. --disabled-metrics does not reach it:
// kube-apiserver registers it as a custom collector.
func forgetConfigHash() {
	metrics.RegisterMetrics()
	if !legacyregistry.Registerer().Unregister(sameName{}) {
		panic("the metric of the loaded encryption configuration has another name by now")
	}
}

// sameName is, for a registry, the collector that describes the same metric.
type sameName struct{}

func (sameName) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("apiserver_encryption_config_controller_last_config_info", "", nil, nil)
}

func (sameName) Collect(chan<- prometheus.Metric) {}
