package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

const billingPath = tenantOne + "/billing"

// billing registers what is about money.
func (s *rest) billing() {
	s.subscriptions()
	s.invoices()
	s.credits()
	s.prices()
	s.operator()
	s.tracing()
	s.webhooks()
}

// priced registers an operation of billing: where there is none it answers 501.
func priced[I, O any](s *rest, id, method, path, summary string, handler func(context.Context, *I) (*O, error), change ...func(*rest, *huma.Operation)) {
	add(s, id, method, path, summary, func(ctx context.Context, in *I) (*O, error) {
		if s.Accounts == nil {
			return nil, notBuilt("billing is")
		}
		return handler(ctx, in)
	}, append(change, mayBeAbsent)...)
}

type (
	// SubscriptionPath names a subscription.
	SubscriptionPath struct {
		TenantPath
		Subscription string `path:"subscription" maxLength:"63" doc:"Id of the subscription; main unless it was given another."`
	}
	// InvoicePath names an invoice.
	InvoicePath struct {
		TenantPath
		Invoice string `path:"invoice" maxLength:"63" doc:"Number of the invoice."`
	}
	subscriptionChange struct {
		SubscriptionPath
		Change
		RawBody []byte
	}
	subscriptionAnswer = one[invoicing.Subscription]
	items[T any]       struct {
		// Items are all of them.
		Items []T `json:"items"`
	}
)

func itemised[T any](all []T, err error) (*one[items[T]], error) {
	if err != nil {
		return nil, err
	}
	return &one[items[T]]{Body: items[T]{all}}, nil
}

// listed is a list of a tenant. An empty one may be of a tenant that does not
// exist.
func listed[T any](ctx context.Context, s *rest, tenant gatehouse.TenantID, all []T, err error) (*one[items[T]], error) {
	if err == nil && len(all) == 0 {
		err = s.billed(ctx, tenant)
	}
	return itemised(all, err)
}

// billed is an error where there is no such tenant, and none that is gone has
// left books.
func (s *rest) billed(ctx context.Context, tenant gatehouse.TenantID) error {
	_, gone := s.Plane.Tenant(ctx, tenant)
	if gatehouse.CodeOf(gone) != gatehouse.CodeNotFound {
		return gone
	}
	if kept, err := s.Accounts.Keeps(ctx, tenant); kept || err != nil {
		return err
	}
	return gone
}

func (s *rest) subscriptions() {
	const one = billingPath + "/subscriptions/{subscription}"
	priced(s, "getBilling", http.MethodGet, billingPath, "What a tenant subscribes to, its credit, and what it is entitled to", s.getBilling)
	priced(s, "setBilling", http.MethodPost, billingPath, "Subscribe a tenant to a version of a plan", s.setBilling, body[invoicing.NewSubscription](), created)
	priced(s, "getSubscription", http.MethodGet, one, "Read a subscription", s.getSubscription)
	priced(s, "changeSubscription", http.MethodPost, one+"/changes", "Change plan or quantities, now or at a time that is not billed yet", amended(s, (*invoicing.Accounts).Change), body[invoicing.Move]())
	priced(s, "pauseSubscription", http.MethodPost, one+"/pause", "Stop recurring fees for a while", amended(s, (*invoicing.Accounts).Pause), body[invoicing.Pause](), optional)
	priced(s, "resumeSubscription", http.MethodPost, one+"/resume", "End a pause", amended(s, resume), body[moment](), optional)
	priced(s, "cancelSubscription", http.MethodPost, one+"/cancel", "End a subscription", amended(s, (*invoicing.Accounts).Cancel), body[invoicing.Cancellation](), optional)
	priced(s, "discountSubscription", http.MethodPost, one+"/discounts", "Add a discount", amended(s, (*invoicing.Accounts).Discount), body[billing.Discount]())
	priced(s, "listEntitlements", http.MethodGet, billingPath+"/entitlements", "What a tenant may use, and has used", s.listEntitlements)
	priced(s, "checkEntitlement", http.MethodGet, billingPath+"/entitlements/{feature}", "Whether more of a feature is covered", s.checkEntitlement)
}

type billingOverview struct {
	Tenant        gatehouse.TenantID       `json:"tenant"`
	Customer      *invoicing.Customer      `json:"customer,omitempty"`
	Subscriptions []invoicing.Subscription `json:"subscriptions"`
	Wallets       []invoicing.Wallet       `json:"wallets"`
	Balances      []invoicing.Balance      `json:"balances"`
}

func (s *rest) getBilling(ctx context.Context, in *TenantPath) (*one[billingOverview], error) {
	if err := s.billed(ctx, in.Tenant); err != nil {
		return nil, err
	}
	v := billingOverview{Tenant: in.Tenant}
	customer, err := s.Accounts.Customer(ctx, in.Tenant)
	switch {
	case err == nil:
		v.Customer = &customer
	case gatehouse.CodeOf(err) != gatehouse.CodeNotFound:
		return nil, err
	}
	if v.Subscriptions, err = s.Accounts.Subscriptions(ctx, in.Tenant); err != nil {
		return nil, err
	}
	if v.Wallets, err = s.Accounts.Wallets(ctx, in.Tenant); err != nil {
		return nil, err
	}
	v.Balances, err = s.Accounts.Balances(ctx, in.Tenant)
	return tagged(v, 0, err)
}

func (s *rest) setBilling(ctx context.Context, in *tenantChange) (*made[invoicing.Subscription], error) {
	var body invoicing.NewSubscription
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.Subscribe(ctx, in.Tenant, body, m)
	return madeOf(v, &v.Meta, err)
}

func (s *rest) getSubscription(ctx context.Context, in *SubscriptionPath) (*subscriptionAnswer, error) {
	v, err := s.Accounts.Subscription(ctx, in.Tenant, in.Subscription)
	return tagged(v, v.Revision, err)
}

// moment is an instant, now by default.
type moment struct {
	// At is when. Default: now.
	At time.Time `json:"at,omitzero"`
}

func resume(a *invoicing.Accounts, ctx context.Context, tenant gatehouse.TenantID, id string, in moment, m control.Mutation) (invoicing.Subscription, error) {
	return a.Resume(ctx, tenant, id, in.At, m)
}

// amended is the operation of a change of a subscription; a body that is left
// out is its zero value.
func amended[T any](s *rest, f func(*invoicing.Accounts, context.Context, gatehouse.TenantID, string, T, control.Mutation) (invoicing.Subscription, error)) func(context.Context, *subscriptionChange) (*subscriptionAnswer, error) {
	return func(ctx context.Context, in *subscriptionChange) (*subscriptionAnswer, error) {
		var body T
		m, err := in.mutation(ctx, in.RawBody)
		if err == nil && len(bytes.TrimSpace(in.RawBody)) > 0 {
			err = decode(in.media, in.RawBody, &body)
		}
		if err != nil {
			return nil, err
		}
		v, err := f(s.Accounts, ctx, in.Tenant, in.Subscription, body, m)
		return tagged(v, v.Revision, err)
	}
}

func (s *rest) listEntitlements(ctx context.Context, in *struct {
	TenantPath
	Subscription string `query:"subscription" maxLength:"63" default:"main" doc:"Id of the subscription."`
},
) (*one[items[invoicing.Access]], error) {
	return itemised(s.Accounts.Entitlements(ctx, in.Tenant, in.Subscription))
}

func (s *rest) checkEntitlement(ctx context.Context, in *struct {
	TenantPath
	Feature      string `path:"feature" maxLength:"63" doc:"Feature of an entitlement."`
	Subscription string `query:"subscription" maxLength:"63" default:"main" doc:"Id of the subscription."`
	Want         string `query:"want" maxLength:"40" default:"0" doc:"Units that are wanted."`
},
) (*one[invoicing.Access], error) {
	want, err := billing.ParseDecimal(in.Want)
	if err != nil || want.Sign() < 0 {
		return nil, faulty("/query/want", "is not a decimal number from 0 on")
	}
	v, err := s.Accounts.Entitled(ctx, in.Tenant, in.Subscription, in.Feature, want)
	return tagged(v, 0, err)
}

func (s *rest) invoices() {
	const many = billingPath + "/invoices"
	forms := []invoicing.Format{invoicing.CSV, invoicing.HTML, invoicing.PDF}
	priced(s, "previewInvoice", http.MethodGet, billingPath+"/preview", "The invoice of a period as it would be by now", s.previewInvoice, documents[billing.Invoice](forms...))
	priced(s, "listDrafts", http.MethodGet, billingPath+"/drafts", "Invoices that are not issued yet", s.listDrafts)
	priced(s, "listTenantInvoices", http.MethodGet, many, "List a tenant's invoices, newest first", s.listTenantInvoices)
	priced(s, "finalizeInvoice", http.MethodPost, many, "Issue the invoice of a period that has ended; it does not change any more", s.finalizeInvoice, body[invoicing.Ask](), optional, created)
	priced(s, "getInvoice", http.MethodGet, many+"/{invoice}", "Read an invoice: JSON, CSV, HTML, PDF or UBL", s.getInvoice, documents[invoicing.Statement](append(forms, invoicing.UBL)...))
	priced(s, "markInvoice", http.MethodPost, many+"/{invoice}/marks", "Mark an invoice as paid, void or uncollectible", s.markInvoice, body[invoicing.Mark]())
	priced(s, "listInvoices", http.MethodGet, "/api/v1/invoices", "List the invoices of all tenants, newest first", s.listInvoices)
	priced(s, "verifyInvoices", http.MethodGet, "/api/v1/invoices/verify", "Check that the numbers of a seller have no gap and the chain is whole", s.verifyInvoices)
}

// documents says in which forms an invoice or a credit note, T in JSON, is
// answered.
func documents[T any](formats ...invoicing.Format) func(*rest, *huma.Operation) {
	return func(s *rest, op *huma.Operation) {
		content := map[string]*huma.MediaType{jsonType: {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")}}
		for _, format := range formats {
			content[mediaType(invoicing.Formats[format])] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
		}
		op.Responses = map[string]*huma.Response{"200": {Description: "The document.", Content: content}}
	}
}

// Form is how an invoice is asked for.
type Form struct {
	Format string `query:"format" enum:"json,csv,html,pdf,ubl" doc:"Comes before Accept."`
	Accept string `header:"Accept" maxLength:"500" doc:"application/json, text/csv, text/html, application/pdf or application/xml."`
}

// format is the first that the caller accepts, JSON by default.
func (f *Form) format() invoicing.Format {
	if f.Format != "" {
		return invoicing.Format(f.Format)
	}
	for part := range strings.SplitSeq(f.Accept, ",") {
		for format, media := range invoicing.Formats {
			if mediaType(strings.TrimSpace(part)) == mediaType(media) {
				return format
			}
		}
	}
	return invoicing.JSON
}

// unfit refuses a form that has no room for a currency.
func (f *Form) unfit(c billing.Currency) error {
	if places, _ := c.Places(); places > 2 && f.format() == invoicing.UBL {
		return faulty("/query/format", "is not of this currency: EN 16931 allows two digits after the point (BR-DEC)")
	}
	return nil
}

func paper(inv *invoicing.Invoice, f *Form, err error) (*huma.StreamResponse, error) {
	if err != nil {
		return nil, err
	}
	if err := f.unfit(inv.Currency); err != nil {
		return nil, err
	}
	write := func() ([]byte, error) { return inv.Document(f.format()) }
	if inv.Number != "" && f.Format == "" && f.format() == invoicing.JSON {
		write = inv.Statement
	}
	text, err := write()
	if err != nil {
		return nil, err
	}
	answer := written(invoicing.Formats[f.format()], "", text)
	if inv.Revision > 0 {
		write := answer.Body
		answer.Body = func(ctx huma.Context) {
			ctx.SetHeader("ETag", `"`+strconv.FormatUint(inv.Revision, 10)+`"`)
			write(ctx)
		}
	}
	return answer, nil
}

func (s *rest) previewInvoice(ctx context.Context, in *struct {
	TenantPath
	Form
	Subscription string `query:"subscription" maxLength:"63" default:"main" doc:"Id of the subscription."`
	Kind         string `query:"kind" enum:"closing,opening,correction" default:"closing" doc:"The invoice that closes the period, the one that opens the subscription, or the one that charges what came after its last period."`
	Period       int    `query:"period" minimum:"-1" maximum:"1000000" default:"-1" doc:"Index of the period; -1 is the one that is next."`
},
) (*huma.StreamResponse, error) {
	ask := invoicing.Ask{Subscription: in.Subscription, Kind: billing.Kind(in.Kind)}
	if in.Period >= 0 {
		ask.Period = &in.Period
	}
	if in.format() == invoicing.UBL {
		return nil, faulty("/query/format", "is not of drafts: UBL needs a number")
	}
	inv, err := s.Accounts.Preview(ctx, in.Tenant, ask)
	return paper(&inv, &in.Form, err)
}

func (s *rest) listDrafts(ctx context.Context, in *TenantPath) (*one[items[invoicing.Invoice]], error) {
	all, err := s.Accounts.Drafts(ctx, in.Tenant)
	return listed(ctx, s, in.Tenant, all, err)
}

func (s *rest) getInvoice(ctx context.Context, in *struct {
	InvoicePath
	Form
},
) (*huma.StreamResponse, error) {
	inv, err := s.Accounts.Invoice(ctx, in.Tenant, in.Invoice)
	return paper(&inv, &in.Form, err)
}

// InvoiceQuery narrows lists of invoices.
type InvoiceQuery struct {
	Paging
	Status       string `query:"status" enum:"finalized,paid,void,uncollectible" doc:"Those of this status."`
	Subscription string `query:"subscription" maxLength:"63" doc:"Those of this subscription."`
	Number       string `query:"number" maxLength:"63" doc:"The one of this number."`
}

func (q *InvoiceQuery) filter(tenant gatehouse.TenantID) invoicing.InvoiceFilter {
	return invoicing.InvoiceFilter{Tenant: tenant, Status: billing.Status(q.Status), Subscription: q.Subscription, Number: q.Number, After: q.Cursor, Limit: q.Limit}
}

func (s *rest) listTenantInvoices(ctx context.Context, in *struct {
	TenantPath
	InvoiceQuery
},
) (*listing[invoicing.Standing], error) {
	page, err := s.Accounts.Invoices(ctx, in.filter(in.Tenant))
	if err == nil && len(page.Items) == 0 {
		err = s.billed(ctx, in.Tenant)
	}
	return paged(&in.Paging, standings(page), err)
}

func (s *rest) listInvoices(ctx context.Context, in *InvoiceQuery) (*listing[invoicing.Standing], error) {
	page, err := s.Accounts.Invoices(ctx, in.filter(""))
	return paged(&in.Paging, standings(page), err)
}

// standings are the invoices of a page with what is paid of each.
func standings(page control.Page[invoicing.Invoice]) control.Page[invoicing.Standing] {
	out := control.Page[invoicing.Standing]{Items: make([]invoicing.Standing, len(page.Items)), Next: page.Next}
	for i := range page.Items {
		out.Items[i] = page.Items[i].Standing()
	}
	return out
}

func (s *rest) finalizeInvoice(ctx context.Context, in *tenantChange) (*made[invoicing.Standing], error) {
	var body invoicing.Ask
	m, err := in.mutation(ctx, in.RawBody)
	if err == nil && len(bytes.TrimSpace(in.RawBody)) > 0 {
		err = decode(in.media, in.RawBody, &body)
	}
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.Finalize(ctx, in.Tenant, body, m)
	return madeOf(v.Standing(), &v.Meta, err)
}

func (s *rest) markInvoice(ctx context.Context, in *struct {
	InvoicePath
	Change
	RawBody []byte
},
) (*one[invoicing.Standing], error) {
	var body invoicing.Mark
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.Mark(ctx, in.Tenant, in.Invoice, body, m)
	return tagged(v.Standing(), v.Revision, err)
}

type verified struct {
	// Seller is whose series it is, Invoices how many there are in it.
	Seller   string `json:"seller"`
	Invoices int    `json:"invoices"`
	// Fault is the first gap or broken link; empty for none.
	Fault string `json:"fault,omitempty"`
}

func (s *rest) verifyInvoices(ctx context.Context, in *struct {
	Seller string `query:"seller" maxLength:"8" default:"GH" doc:"Id of the seller."`
},
) (*one[verified], error) {
	n, err := s.Accounts.VerifyInvoices(ctx, in.Seller)
	if err == nil && n == 0 && in.Seller != invoicing.DefaultSeller {
		err = s.sells(ctx, in.Seller)
	}
	v := verified{Seller: in.Seller, Invoices: n}
	if broken, ok := errors.AsType[*invoicing.Broken](err); ok {
		v.Fault, err = broken.Reason, nil
	}
	return tagged(v, 0, err)
}

// sells is an error where there is no such seller.
func (s *rest) sells(ctx context.Context, id string) error {
	all, err := s.Accounts.Sellers(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(x invoicing.Seller) bool { return x.ID == id }) {
		return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no such seller"}
	}
	return nil
}
