// SPDX-License-Identifier: AGPL-3.0-only

// Command server is Coder's own program with one route more: an owner's dashboard asks there where apps are.
//
// A member's dashboard asks /api/v2/regions. An owner's asks /api/v2/workspaceproxies, which Coder's open part lacks: it
// then says that no apps with a subdomain are configured, and the tile of the editor is dead.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	_ "time/tzdata"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/coder/coder/v2/agent/agentexec"
	_ "github.com/coder/coder/v2/buildinfo/resources"
	"github.com/coder/coder/v2/cli"
	"github.com/coder/coder/v2/coderd"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "agent-exec" {
		fmt.Fprintln(os.Stderr, agentexec.CLI())
		os.Exit(1)
	}
	tea.InitTerminal()

	var root cli.RootCmd
	commands := root.AGPL()
	for index, command := range commands {
		if command.Name() == "server" {
			commands[index] = root.Server(newAPI)
		}
	}
	root.RunWithSubcommands(commands)
}

func newAPI(_ context.Context, options *coderd.Options) (*coderd.API, io.Closer, error) {
	api := coderd.New(options)
	api.APIHandler.Get("/workspaceproxies", http.RedirectHandler("/api/v2/regions", http.StatusTemporaryRedirect).ServeHTTP)
	return api, api, nil
}
