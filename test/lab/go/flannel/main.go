// A flanneld for the real lab, from flannel's own parts. Its own main has backends for clouds whose modules are served
// nowhere, or which need a C compiler.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
)

const (
	subnetFile  = "/run/flannel/subnet.env"
	networkFile = "/etc/kube-flannel/net-conf.json"
	annotations = "flannel.alpha.coreos.com"
	resync      = 5 // seconds
)

func main() {
	iface := flag.String("iface", "", "interface to other hosts; default the one of the default route")
	masquerade := flag.Bool("ip-masq", false, "masquerade what leaves the network")
	flag.Bool("kube-subnet-mgr", true, "subnets are the nodes' podCIDRs; there is no other way here")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *iface, *masquerade); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, iface string, masquerade bool) error {
	subnets, err := kube.NewSubnetManager(ctx, "", "", annotations, networkFile, true)
	if err != nil {
		return err
	}
	config, err := subnets.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return err
	}
	address, _ := subnets.GetStoredPublicIP(ctx)
	if iface == "" {
		iface = address
	}
	external, err := ipmatch.LookupExtIface(iface, "", "", stack, ipmatch.PublicIPOpts{PublicIP: address})
	if err != nil {
		return err
	}
	chosen, err := backend.NewManager(ctx, subnets, external).GetBackend(config.BackendType)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	network, err := chosen.RegisterNetwork(ctx, &running, config)
	if err != nil {
		return err
	}

	rules := &iptables.IPTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	if masquerade {
		// A host of the lab has no rules of a former network.
		none, none6 := ip.IP4Net{}, ip.IP6Net{IP: &ip.IP6{}}
		err := rules.SetupAndEnsureMasqRules(ctx, config.Network, none, none, config.IPv6Network, none6, none6,
			network.Lease(), resync, false)
		if err != nil {
			return err
		}
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resync)
	lease := network.Lease()
	err = subnets.HandleSubnetFile(subnetFile, config, masquerade, lease.Subnet, lease.IPv6Subnet, network.MTU())
	if err != nil {
		return err
	}
	running.Go(func() { network.Run(ctx) })
	err = subnets.CompleteLease(ctx, lease, &running)
	running.Wait()
	return err
}
