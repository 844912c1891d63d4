package early

import "syscall"

// carryOut returns only when it fails. Whoever takes over begins anew, and says
// why.
func (o *Order) carryOut() {
	const closeRange, closeOnExec = 436, 1 << 2 // on every machine; syscall is too old for it
	if _, _, e := syscall.RawSyscall(closeRange, descriptor, uintptr(^uint32(0)), closeOnExec); e != 0 {
		return
	}
	groups := make([]int, len(o.Groups))
	for i, gid := range o.Groups {
		groups[i] = int(gid)
	}
	// From the last of these on nothing is done that its user could not do.
	if syscall.Setgroups(groups) != nil || syscall.Setgid(int(o.GID)) != nil || syscall.Setuid(int(o.UID)) != nil {
		return
	}
	Became = true
	if o.Cwd != "" && syscall.Chdir(o.Cwd) != nil && (o.CwdElse == "" || syscall.Chdir(o.CwdElse) != nil) {
		return
	}
	env := o.Env
	if o.PWD {
		path := make([]byte, syscall.PathMax)
		n, err := syscall.Getcwd(path)
		if err != nil || n < 2 || path[0] != '/' {
			return
		}
		env = append(env, "PWD="+string(path[:n-1])) // it ends in a NUL
	}
	_ = syscall.Exec(o.Args[0], o.Args, env)
}
