// Command belfry runs scheduled jobs and accounts for every one of them.
package main

import (
	"os"

	"belfry/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args)) }
