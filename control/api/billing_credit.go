package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

func (s *rest) credits() {
	priced(s, "grantCredit", http.MethodPost, billingPath+"/credits", "Put prepaid credit into a tenant's wallet", s.grantCredit, body[invoicing.Credit](), created)
	priced(s, "listCreditNotes", http.MethodGet, billingPath+"/credit-notes", "List a tenant's credit notes", s.listCreditNotes)
	priced(s, "createCreditNote", http.MethodPost, billingPath+"/credit-notes", "Take back a part of an invoice, or all of it", s.createCreditNote, body[invoicing.NewNote](), created)
	priced(s, "getCreditNote", http.MethodGet, billingPath+"/credit-notes/{note}", "Read a credit note: JSON or UBL", s.getCreditNote, documents[billing.CreditNote](invoicing.UBL))
	priced(s, "adjustBilling", http.MethodPost, billingPath+"/adjustments", "Correct usage that is billed by a signed amount; the next invoice has it", s.adjustBilling, body[ledger.Adjustment](), created)
	priced(s, "listLateUsage", http.MethodGet, billingPath+"/late", "List usage that came after its invoice, and which one charged it", s.listLateUsage)
	priced(s, "listEntries", http.MethodGet, billingPath+"/entries", "List a tenant's entries in the operator's books, which balance", s.listEntries)
	priced(s, "listAlerts", http.MethodGet, billingPath+"/alerts", "List what a tenant's thresholds are, and which were told", s.listAlerts)
	priced(s, "setAlert", http.MethodPut, billingPath+"/alerts/{alert}", "Create or replace an alert", s.setAlert, body[invoicing.NewAlert]())
	priced(s, "deleteAlert", http.MethodDelete, billingPath+"/alerts/{alert}", "Remove an alert", s.deleteAlert, noContent)
	priced(s, "getCustomer", http.MethodGet, billingPath+"/customer", "Who pays for a tenant", s.getCustomer)
	priced(s, "setCustomer", http.MethodPut, billingPath+"/customer", "Say who pays for a tenant", s.setCustomer, body[invoicing.NewCustomer]())
}

func (s *rest) grantCredit(ctx context.Context, in *tenantChange) (*made[invoicing.Wallet], error) {
	var body invoicing.Credit
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.Grant(ctx, in.Tenant, body, m)
	return madeOf(v, &v.Meta, err)
}

func (s *rest) listCreditNotes(ctx context.Context, in *TenantPath) (*one[items[invoicing.Note]], error) {
	all, err := s.Accounts.Notes(ctx, in.Tenant)
	return listed(ctx, s, in.Tenant, all, err)
}

func (s *rest) createCreditNote(ctx context.Context, in *tenantChange) (*made[invoicing.Note], error) {
	var body invoicing.NewNote
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, allFaults(err, func() error {
			_, err := s.Accounts.Credit(ctx, in.Tenant, body, control.Mutation{Actor: m.Actor, DryRun: true})
			return err
		})
	}
	v, err := s.Accounts.Credit(ctx, in.Tenant, body, m)
	return madeOf(v, &v.Meta, err)
}

func (s *rest) getCreditNote(ctx context.Context, in *struct {
	TenantPath
	Form
	Note string `path:"note" maxLength:"63" doc:"Number of the credit note."`
},
) (*huma.StreamResponse, error) {
	n, err := s.Accounts.Note(ctx, in.Tenant, in.Note)
	if err != nil {
		return nil, err
	}
	if f := in.format(); f != invoicing.JSON && f != invoicing.UBL {
		return nil, faulty("/query/format", "is not json or ubl")
	}
	if err := in.unfit(n.Currency); err != nil {
		return nil, err
	}
	text, err := s.Accounts.NoteDocument(ctx, n, in.format())
	if err != nil {
		return nil, err
	}
	return written(invoicing.Formats[in.format()], "", text), nil
}

func (s *rest) listAlerts(ctx context.Context, in *TenantPath) (*one[items[invoicing.Alert]], error) {
	all, err := s.Accounts.Alerts(ctx, in.Tenant)
	return listed(ctx, s, in.Tenant, all, err)
}

func (s *rest) adjustBilling(ctx context.Context, in *tenantChange) (*made[ledger.Adjustment], error) {
	var a ledger.Adjustment
	m, err := in.read(ctx, in.RawBody, &a)
	if err != nil {
		return nil, err
	}
	if err := adjustmentOf(ctx, &a, in.Tenant, in.Idempotency); err != nil {
		return nil, err
	}
	v, err := s.Accounts.Adjust(ctx, a, m)
	if err != nil {
		return nil, err
	}
	out := &made[ledger.Adjustment]{Status: http.StatusCreated, Body: v}
	if in.DryRun {
		out.Status = http.StatusOK
	}
	return out, nil
}

func (s *rest) listLateUsage(ctx context.Context, in *TenantPath) (*one[items[invoicing.Late]], error) {
	all, err := s.Accounts.Late(ctx, in.Tenant)
	return listed(ctx, s, in.Tenant, all, err)
}

func (s *rest) listEntries(ctx context.Context, in *TenantPath) (*one[items[invoicing.Entry]], error) {
	all, err := s.Accounts.Entries(ctx, in.Tenant)
	return listed(ctx, s, in.Tenant, all, err)
}

// AlertPath names an alert.
type AlertPath struct {
	TenantPath
	Alert string `path:"alert" maxLength:"63" doc:"Id of the alert."`
}

func (s *rest) setAlert(ctx context.Context, in *struct {
	AlertPath
	Change
	RawBody []byte
},
) (*one[invoicing.Alert], error) {
	var body invoicing.NewAlert
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	if body.ID == "" {
		body.ID = in.Alert
	}
	if body.ID != in.Alert {
		return nil, faulty("/id", "is not that of the path")
	}
	v, err := s.Accounts.SetAlert(ctx, in.Tenant, body, m)
	return tagged(v, v.Revision, err)
}

func (s *rest) deleteAlert(ctx context.Context, in *struct {
	AlertPath
	Change
},
) (*gone, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	return goneOf(nil, s.Accounts.DeleteAlert(ctx, in.Tenant, in.Alert, m))
}

func (s *rest) getCustomer(ctx context.Context, in *TenantPath) (*one[invoicing.Customer], error) {
	v, err := s.Accounts.Customer(ctx, in.Tenant)
	return tagged(v, v.Revision, err)
}

func (s *rest) setCustomer(ctx context.Context, in *tenantChange) (*one[invoicing.Customer], error) {
	var body invoicing.NewCustomer
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.SetCustomer(ctx, in.Tenant, body, m)
	return tagged(v, v.Revision, err)
}
