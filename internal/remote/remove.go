package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"belfry/internal/site"
)

// Remove takes a project from the host: with all, its account and what was
// published there too. wait is for another deploy of the project to end.
func (h *Host) Remove(ctx context.Context, projectName string, all bool, wait time.Duration) error {
	err := h.removeByBelfry(ctx, projectName, all, wait)
	if all && errors.Is(err, ErrNotDeployed) { // there may be what an earlier removal left
		return h.removeLeft(ctx, projectName, wait)
	}
	return err
}

func (h *Host) removeByBelfry(ctx context.Context, projectName string, all bool, wait time.Duration) error {
	held, err := h.hold(ctx, projectName, "", "removes the project", wait)
	if err != nil {
		return err
	}
	defer held.release()
	return h.site(ctx, projectName, "", "remove", site.Removal{All: all}, nil)
}

// removeLeft removes what belfry made in a project's folder, where no belfry is left to
// do so, and says what else is there.
const removeLeft = `# $1: the project; then what belfry makes there, last what shows that it did.
project=$1
shift
for mark; do :; done
cd "$HOME/belfry/$project" 2>/dev/null && [ -f "$mark" ] || exit 127
root=$(pwd -P)
refuse() { echo "$1" >&2; exit 1; }
[ ! -e ` + site.ServiceName + ` ] || refuse "something still keeps its daemon running: deploy it again, and remove it then"
# A deploy that comes meanwhile waits, and then sees that the folder is gone.
exec 9<>` + site.HoldName + ` || exit
if command -v flock >/dev/null && ! flock -n 9; then
	cat ` + site.HoldName + `
	exit 75
fi
# Daemons and the keepers of jobs execute a belfry of this folder, and jobs begin in a release.
readlink "/proc/$$/exe" >/dev/null || refuse "which processes are running is not to be seen"
for process in /proc/[0-9]*; do
	case $(readlink "$process/exe" 2>/dev/null):$(readlink "$process/cwd" 2>/dev/null) in
	"$root"/* | *:"$root"/releases/*) refuse "process ${process#/proc/} ($(cat "$process/comm")) of it is still running" ;;
	esac
done
rm -rf -- "$@" || exit
cd .. && rmdir "$project" 2>/dev/null || ls -A "$project"`

// removeLeft waits, up to wait, while another deploy of the project is at work.
func (h *Host) removeLeft(ctx context.Context, projectName string, wait time.Duration) error {
	var busy *ExitError
	for end := time.Now().Add(wait); ; {
		said, err := h.script(ctx, removeLeft, append([]string{projectName}, site.Parts()...)...)
		switch {
		case err == nil:
			if said != "" {
				h.o.Tell(fmt.Sprintf("what belfry did not make is left in ~/%s: %s", h.root(projectName), strings.Join(strings.Fields(said), " ")))
			}
			return nil
		case !errors.As(err, &busy) || busy.Code != 75:
			return h.siteError(projectName, "remove", err)
		case time.Now().After(end):
			var other site.Deploying
			if err := json.Unmarshal([]byte(said), &other); err != nil {
				return fmt.Errorf("another deploy of %s is at work on %s, and does not say whose: %w", projectName, h.Name(), err)
			}
			return &BusyError{h.Name(), other, wait}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
