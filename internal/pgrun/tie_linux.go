package pgrun

import "syscall"

// tie has the kernel shut the server down when this process dies: SIGQUIT is
// PostgreSQL's immediate shutdown, which takes the server's children along.
func tie(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGQUIT }
