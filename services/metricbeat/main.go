// Command metricbeat is Elastic's Metricbeat with two of its modules: system, for the machine, and prometheus, for
// the operations listener of the program on it. Elastic's own build links a hundred more.
package main

import (
	"flag"
	"os"

	"github.com/elastic/beats/v7/libbeat/cmd"
	"github.com/elastic/beats/v7/libbeat/cmd/instance"
	"github.com/elastic/beats/v7/libbeat/common"
	"github.com/elastic/beats/v7/libbeat/publisher/processing"
	"github.com/elastic/beats/v7/metricbeat/beater"
	"github.com/spf13/pflag"

	// Importing a metricset registers it.
	_ "github.com/elastic/beats/v7/metricbeat/include/fields"
	_ "github.com/elastic/beats/v7/metricbeat/module/prometheus"
	_ "github.com/elastic/beats/v7/metricbeat/module/prometheus/collector"
	_ "github.com/elastic/beats/v7/metricbeat/module/system"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/core"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/cpu"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/diskio"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/filesystem"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/fsstat"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/load"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/memory"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/network"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/process"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/process_summary"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/socket_summary"
	_ "github.com/elastic/beats/v7/metricbeat/module/system/uptime"
)

// ecsVersion is the Elastic Common Schema that Metricbeat 7.17 writes.
const ecsVersion = "1.12.0"

func main() {
	if err := cmd.GenRootCmdWithSettings(beater.DefaultCreator(), settings()).Execute(); err != nil {
		os.Exit(1)
	}
}

func settings() instance.Settings {
	ecs := common.MapStr{"ecs": common.MapStr{"version": ecsVersion}}
	return instance.Settings{
		Name:     "metricbeat",
		RunFlags: runFlags(),
		Processing: processing.MakeDefaultSupport(
			true, processing.WithFields(ecs), processing.WithHost, processing.WithAgentMeta(),
		),
	}
}

// runFlags passes on the one flag that the system module defines for itself: where the host's file system is.
func runFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("metricbeat", pflag.ExitOnError)
	if hostfs := flag.CommandLine.Lookup("system.hostfs"); hostfs != nil {
		flags.AddGoFlag(hostfs)
	}
	return flags
}
