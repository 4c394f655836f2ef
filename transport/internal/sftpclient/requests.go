package sftpclient

import (
	"context"
	"encoding/binary"
	"errors"
)

// Handle is an open file or folder on the server.
type Handle struct {
	c    *Client
	id   string
	path string
}

// OpenCall is an Open or Opendir that has been sent.
type OpenCall struct{ *Call }

// Handle waits for the open file. If ctx ends first the file is closed as soon
// as it is open.
func (o OpenCall) Handle(ctx context.Context) (*Handle, error) {
	id, err := o.handle(ctx)
	if err != nil {
		if ctx.Err() != nil {
			o.Discard()
		}
		return nil, err
	}
	return &Handle{o.c, id, o.path}, nil
}

// Discard closes the file as soon as it is open; nobody will use it.
func (o OpenCall) Discard() {
	go func() {
		if h, err := o.Handle(context.Background()); err == nil {
			h.Close()
		}
	}()
}

// Open opens a file. mode holds the permissions of a file that is made, before
// the server's umask; 0 leaves them to the server. OpenSSH opens folders too,
// for reading: that is how a folder is synced.
func (c *Client) Open(path string, flags, mode uint32) OpenCall {
	b := appendString(nil, path)
	b = binary.BigEndian.AppendUint32(b, flags)
	b = appendMode(b, mode)
	return OpenCall{c.start("open", path, typeOpen, b)}
}

func appendMode(b []byte, mode uint32) []byte {
	if mode == 0 {
		return binary.BigEndian.AppendUint32(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, attrPermissions)
	return binary.BigEndian.AppendUint32(b, mode)
}

// start sends a request about the open file: its type, and its body behind the
// handle, in two parts.
func (h *Handle) start(call *Call, kind byte, body, payload []byte) *Call {
	call.path, call.onHandle = h.path, true
	return h.c.send(call, kind, append(appendString(nil, h.id), body...), payload)
}

// Close closes the file. It must be called once: the server may give the same
// handle to the next file.
func (h *Handle) Close() *Call {
	return h.start(&Call{op: "close"}, typeClose, nil, nil)
}

// Stat asks for the attributes of the open file.
func (h *Handle) Stat() *Call {
	return h.start(&Call{op: "stat"}, typeFstat, nil, nil)
}

// Fsync asks for the file, or OpenSSH's folder, to be put on stable storage.
// It covers the writes that were sent before it.
func (h *Handle) Fsync() *Call {
	body := appendString(appendString(nil, "fsync@openssh.com"), h.id)
	return h.c.send(&Call{op: "fsync", path: h.path, onHandle: true}, typeExtended, body, nil)
}

// Stat asks for the attributes of the file that path leads to.
func (c *Client) Stat(path string) *Call {
	return c.start("stat", path, typeStat, appendString(nil, path))
}

// Lstat asks for the attributes of path itself.
func (c *Client) Lstat(path string) *Call {
	return c.start("stat", path, typeLstat, appendString(nil, path))
}

// Remove removes a file.
func (c *Client) Remove(path string) *Call {
	return c.start("remove", path, typeRemove, appendString(nil, path))
}

// Rmdir removes an empty folder.
func (c *Client) Rmdir(path string) *Call {
	return c.start("rmdir", path, typeRmdir, appendString(nil, path))
}

// Mkdir makes a folder.
func (c *Client) Mkdir(path string, mode uint32) *Call {
	return c.start("mkdir", path, typeMkdir, appendMode(appendString(nil, path), mode))
}

// Rename renames a file. Whether an existing target is refused or replaced
// depends on the server; OpenSSH refuses.
func (c *Client) Rename(from, to string) *Call {
	return c.start("rename", to, typeRename, appendString(appendString(nil, from), to))
}

// SetMode changes the permissions of the file that path leads to.
func (c *Client) SetMode(path string, mode uint32) *Call {
	return c.start("setstat", path, typeSetstat, appendMode(appendString(nil, path), mode))
}

// SetLinkMode changes the permissions of path itself.
func (c *Client) SetLinkMode(path string, mode uint32) *Call {
	return c.extended("setstat", path, "lsetstat@openssh.com", appendMode(appendString(nil, path), mode))
}

// SetMode changes the permissions of the open file.
func (h *Handle) SetMode(mode uint32) *Call {
	return h.start(&Call{op: "setstat"}, typeFsetstat, appendMode(nil, mode), nil)
}

// Symlink makes name a symbolic link to target, in OpenSSH's order of the two.
func (c *Client) Symlink(target, name string) *Call {
	return c.start("symlink", name, typeSymlink, appendString(appendString(nil, target), name))
}

// Link gives the file a second name, and fails if that is taken.
func (c *Client) Link(old, name string) *Call {
	return c.extended("link", name, "hardlink@openssh.com", appendString(appendString(nil, old), name))
}

// PosixRename renames a file and replaces an existing target.
func (c *Client) PosixRename(from, to string) *Call {
	return c.extended("rename", to, "posix-rename@openssh.com", appendString(appendString(nil, from), to))
}

func (c *Client) extended(op, path, name string, body []byte) *Call {
	return c.start(op, path, typeExtended, append(appendString(nil, name), body...))
}

// Space says how much room a file system has.
type Space struct {
	Total, Free int64  // bytes; Free is what the user may use
	Files       uint64 // 0 where the file system does not count them
	FreeFiles   uint64
	ReadOnly    bool
}

// Space asks how much room the file system of path has (statvfs@openssh.com).
func (c *Client) Space(ctx context.Context, path string) (Space, error) {
	if !c.Has("statvfs@openssh.com") {
		return Space{}, errors.ErrUnsupported
	}
	call := c.extended("statvfs", path, "statvfs@openssh.com", appendString(nil, path))
	p, err := call.Wait(ctx)
	if err != nil {
		return Space{}, err
	}
	if p.kind != typeExtReply {
		return Space{}, call.unexpected(p)
	}
	r := reader{b: p.body}
	_, frsize, blocks, _, bavail := r.uint64(), r.uint64(), r.uint64(), r.uint64(), r.uint64()
	files, _, favail, _, flags := r.uint64(), r.uint64(), r.uint64(), r.uint64(), r.uint64()
	if r.err != nil || frsize > 1<<30 || blocks > 1<<62/(frsize+1) || bavail > blocks {
		return Space{}, call.wrap(errProtocol)
	}
	return Space{int64(blocks * frsize), int64(bavail * frsize), files, favail, flags&1 != 0}, nil
}
