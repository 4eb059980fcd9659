package control

import (
	"context"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// kindFolder keeps whose a data folder is: its id is the name that usage has
// of it, its body a folderRecord.
const kindFolder = "folder"

type folderRecord struct {
	Gateway string `json:"gateway"`
}

const (
	maxGatewayName = 200
	maxFolderName  = 64
)

// gatewayFault says why a name is none that a data plane may have; empty: it
// may.
func gatewayFault(name string) string {
	switch {
	case name == "" || len(name) > maxGatewayName || !plainName(name):
		return fmt.Sprintf("the name of a data plane is a text of 1 to %d bytes", maxGatewayName)
	case name == LocalGateway:
		return fmt.Sprintf("%q is the data plane in the process of the control plane: set control.gateway to another name", name)
	}
	return ""
}

// Bind has the token of a data plane be that of one name from now on, if it is
// of none yet, and returns the caller with the name that it is bound to. A name
// that no data plane may have is CodeInvalid.
func (o *Operators) Bind(ctx context.Context, c Caller, name string) (Caller, error) {
	if c.Role != Gateway || c.Gateway != "" {
		return c, nil
	}
	if fault := gatewayFault(name); fault != "" {
		return c, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fault}
	}
	ref := tokenRef(c.ID)
	for {
		var r tokenRecord
		found, err := read(ctx, &o.plane.journal.Reader, ref, &r)
		if err != nil {
			return c, err
		}
		if c.Gateway = r.Gateway; c.Gateway != "" {
			return c, nil
		}
		// The book learns of it from the journal, as of all that becomes of tokens.
		r.Gateway = name
		_, err = o.plane.commit(ctx, Mutation{Actor: c.Actor(), Why: "first use"}, journal.Change{
			Kind: "token.bind", Subject: c.ID, Expect: map[journal.Ref]int64{ref: int64(found.Revision)}, Puts: []journal.Put{put(ref, r)},
		})
		if err != nil && !overtaken(err) {
			return c, err
		}
	}
}

// ClaimFolders has data folders be those of a data plane, each of whoever
// reports its usage first. Where one is another's that is CodeForbidden, and
// none is claimed.
func (p *Plane) ClaimFolders(ctx context.Context, c Caller, gateway string, folders []string) error {
	var free []string
	for _, name := range folders {
		if len(name) > maxFolderName {
			return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf("the name of a data folder has at most %d bytes", maxFolderName)}
		}
		owner, err := p.folderOwner(ctx, name)
		switch {
		case gatehouse.CodeOf(err) == gatehouse.CodeNotFound:
			free = append(free, name)
		case err != nil:
			return err
		case owner != gateway:
			return othersFolder(name)
		}
	}
	for _, name := range free {
		ref := journal.Ref{Kind: kindFolder, ID: name}
		_, err := p.commit(ctx, Mutation{Actor: c.Actor(), Why: "first usage"}, journal.Change{
			Kind: "folder.claim", Subject: name, Expect: map[journal.Ref]int64{ref: journal.Absent}, Puts: []journal.Put{put(ref, folderRecord{gateway})},
		})
		if err != nil && !overtaken(err) {
			return err
		}
		if owner, err := p.folderOwner(ctx, name); err != nil {
			return err
		} else if owner != gateway {
			return othersFolder(name)
		}
	}
	return nil
}

// folderOwner is the data plane that a folder is of; CodeNotFound: of none. A
// folder stays whose it is.
func (p *Plane) folderOwner(ctx context.Context, folder string) (string, error) {
	if owner, ok := p.folders.Load(folder); ok {
		if name, ok := owner.(string); ok {
			return name, nil
		}
	}
	var r folderRecord
	if _, err := read(ctx, &p.journal.Reader, journal.Ref{Kind: kindFolder, ID: folder}, &r); err != nil {
		return "", err
	}
	p.folders.Store(folder, r.Gateway)
	return r.Gateway, nil
}

func othersFolder(name string) error {
	return &gatehouse.Error{Code: gatehouse.CodeForbidden, Message: fmt.Sprintf(
		"the data folder %s has reported as another data plane: set control.gateway to the name that it had, with a token of that name", name)}
}
