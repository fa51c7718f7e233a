package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const subnetFile = "/run/flannel/subnet.env"

// flannel is flannel's CNI plugin as far as a conflist with `delegate` needs it: the plugin `bridge` with the subnet
// that flanneld has written down. (The real one's module is served nowhere.)
func flannel() error {
	if os.Getenv("CNI_COMMAND") == "VERSION" {
		_, err := fmt.Println(`{"cniVersion":"1.0.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0"]}`)
		return err
	}
	var conf struct {
		CNIVersion    string         `json:"cniVersion"`
		Name          string         `json:"name"`
		PrevResult    any            `json:"prevResult,omitempty"`
		RuntimeConfig any            `json:"runtimeConfig,omitempty"`
		Delegate      map[string]any `json:"delegate"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil {
		return refuse(err)
	}
	subnet, err := readSubnet()
	if err != nil {
		return refuse(err)
	}
	// flanneld writes the gateway's address.
	_, own, err := net.ParseCIDR(subnet["FLANNEL_SUBNET"])
	if err != nil {
		return refuse(err)
	}
	bridge := map[string]any{
		"type":      "bridge",
		"bridge":    "cni0",
		"isGateway": true,
		"ipMasq":    subnet["FLANNEL_IPMASQ"] == "false",
		"ipam": map[string]any{
			"type":   "host-local",
			"ranges": [][]map[string]string{{{"subnet": own.String()}}},
			"routes": []map[string]string{{"dst": subnet["FLANNEL_NETWORK"]}},
		},
	}
	if mtu, err := strconv.Atoi(subnet["FLANNEL_MTU"]); err == nil {
		bridge["mtu"] = mtu
	}
	for key, value := range conf.Delegate {
		bridge[key] = value
	}
	bridge["name"] = conf.Name
	bridge["cniVersion"] = conf.CNIVersion
	if conf.PrevResult != nil {
		bridge["prevResult"] = conf.PrevResult
	}
	if conf.RuntimeConfig != nil {
		bridge["runtimeConfig"] = conf.RuntimeConfig
	}
	text, err := json.Marshal(bridge)
	if err != nil {
		return refuse(err)
	}
	return runPlugin(fmt.Sprint(bridge["type"]), text)
}

func readSubnet() (map[string]string, error) {
	text, err := os.ReadFile(subnetFile)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			values[name] = value
		}
	}
	if values["FLANNEL_SUBNET"] == "" || values["FLANNEL_NETWORK"] == "" {
		return nil, fmt.Errorf("%s names no subnet", subnetFile)
	}
	return values, nil
}

func runPlugin(name string, conf []byte) error {
	for _, folder := range filepath.SplitList(os.Getenv("CNI_PATH")) {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		command := exec.Command(path)
		command.Stdin = strings.NewReader(string(conf))
		command.Stdout = os.Stdout
		command.Stderr = os.Stderr
		return command.Run()
	}
	return refuse(fmt.Errorf("no plugin %s in %s", name, os.Getenv("CNI_PATH")))
}

// refuse tells CNI's caller of an error in the way it reads it.
func refuse(err error) error {
	text, _ := json.Marshal(map[string]any{"cniVersion": "1.0.0", "code": 100, "msg": err.Error()})
	io.WriteString(os.Stdout, string(text))
	return err
}
