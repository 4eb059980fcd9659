package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
)

func (s *rest) webhooks() {
	const many, one = "/api/v1/webhooks", "/api/v1/webhooks/{webhook}"
	hooked(s, "listWebhooks", http.MethodGet, many, "List endpoints of webhooks", s.listWebhooks)
	hooked(s, "createWebhook", http.MethodPost, many, "Make an endpoint of webhooks; its secret is in this answer only", s.createWebhook, body[webhook.NewEndpoint](), created)
	hooked(s, "getWebhook", http.MethodGet, one, "Read an endpoint of webhooks", s.getWebhook)
	hooked(s, "rotateWebhook", http.MethodPost, one+"/rotate", "Give an endpoint a new secret, both being signed with for a day", s.rotateWebhook)
	hooked(s, "enableWebhook", http.MethodPost, one+"/enable", "Send to an endpoint again", s.enableWebhook)
	hooked(s, "disableWebhook", http.MethodPost, one+"/disable", "Send nothing to an endpoint for now", s.disableWebhook, body[disabling]())
	hooked(s, "deleteWebhook", http.MethodDelete, one, "Remove an endpoint", s.deleteWebhook, noContent)
	hooked(s, "listDeliveries", http.MethodGet, one+"/deliveries", "What an endpoint has not taken yet, or never will", s.listDeliveries)
	hooked(s, "retryDelivery", http.MethodPost, one+"/deliveries/{event}/retry", "Send a message again now that an endpoint has not taken", s.retryDelivery)
}

// hooked registers an operation of webhooks: where there are none it answers
// 501.
func hooked[I, O any](s *rest, id, method, path, summary string, handler func(context.Context, *I) (*O, error), change ...func(*rest, *huma.Operation)) {
	add(s, id, method, path, summary, func(ctx context.Context, in *I) (*O, error) {
		if s.Webhooks == nil {
			return nil, notBuilt("webhooks are")
		}
		return handler(ctx, in)
	}, append(change, mayBeAbsent)...)
}

type (
	// WebhookPath names an endpoint.
	WebhookPath struct {
		Webhook string `path:"webhook" maxLength:"63" doc:"Id of the endpoint."`
		Tenant  string `query:"tenant" maxLength:"63" doc:"Whose it is; empty for the platform's."`
	}
	webhookAct struct {
		WebhookPath
		Change
	}
	webhookAnswer = one[webhook.Endpoint]
	// disabling says why nothing is sent.
	disabling struct {
		// Reason is shown as disabled of the endpoint.
		Reason string `json:"reason"`
	}
)

func (s *rest) listWebhooks(ctx context.Context, in *struct {
	Tenant string `query:"tenant" maxLength:"63" doc:"Whose; empty for the platform's."`
},
) (*one[items[webhook.Endpoint]], error) {
	all, err := s.Webhooks.List(ctx, in.Tenant)
	if err == nil && len(all) == 0 && in.Tenant != "" {
		_, err = s.Plane.Tenant(ctx, gatehouse.TenantID(in.Tenant))
	}
	return itemised(all, err)
}

func (s *rest) createWebhook(ctx context.Context, in *struct {
	Change
	RawBody []byte
},
) (*made[webhook.Endpoint], error) {
	var body webhook.NewEndpoint
	m, err := in.read(ctx, in.RawBody, &body)
	err = allFaults(err, func() error {
		faults := s.Webhooks.Faults(&body)
		if body.Tenant != "" {
			if _, err := s.Plane.Tenant(ctx, body.Tenant); gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
				faults = append(faults, gatehouse.Fault{Pointer: "/tenant", Reason: "does not exist"})
			} else if err != nil {
				return err
			}
		}
		return refusedFaults(faults)
	})
	if err != nil {
		return nil, err
	}
	v, err := s.Webhooks.Create(ctx, body, m)
	return madeOf(v, &v.Meta, err)
}

func (s *rest) getWebhook(ctx context.Context, in *WebhookPath) (*webhookAnswer, error) {
	v, err := s.Webhooks.Endpoint(ctx, in.Tenant, in.Webhook)
	return tagged(v, v.Revision, err)
}

func (s *rest) rotateWebhook(ctx context.Context, in *webhookAct) (*webhookAnswer, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	v, err := s.Webhooks.Rotate(ctx, in.Tenant, in.Webhook, webhook.DefaultOverlap, m)
	return tagged(v, v.Revision, err)
}

func (s *rest) enableWebhook(ctx context.Context, in *webhookAct) (*webhookAnswer, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	v, err := s.Webhooks.Enable(ctx, in.Tenant, in.Webhook, "", m)
	return tagged(v, v.Revision, err)
}

func (s *rest) disableWebhook(ctx context.Context, in *struct {
	WebhookPath
	Change
	RawBody []byte
},
) (*webhookAnswer, error) {
	const longest = 1000
	var body disabling
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	if body.Reason == "" || len(body.Reason) > longest {
		return nil, faulty("/reason", "is not text of 1 to 1000 bytes")
	}
	v, err := s.Webhooks.Enable(ctx, in.Tenant, in.Webhook, body.Reason, m)
	return tagged(v, v.Revision, err)
}

func (s *rest) deleteWebhook(ctx context.Context, in *webhookAct) (*gone, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	return goneOf(nothingElse(in.DryRun), s.Webhooks.Delete(ctx, in.Tenant, in.Webhook, m))
}

// nothingElse is the preview of a removal that writes nothing else.
func nothingElse(dry bool) *control.Preview {
	if !dry {
		return nil
	}
	return &control.Preview{Changes: []control.ResourceChange{}}
}

func (s *rest) listDeliveries(ctx context.Context, in *WebhookPath) (*one[items[webhook.Delivery]], error) {
	if _, err := s.Webhooks.Endpoint(ctx, in.Tenant, in.Webhook); err != nil {
		return nil, err
	}
	return itemised(s.Webhooks.Deliveries(ctx, in.Tenant, in.Webhook))
}

func (s *rest) retryDelivery(ctx context.Context, in *struct {
	WebhookPath
	Change
	Event uint64 `path:"event" minimum:"1" maximum:"9007199254740991" doc:"Number of the event in the journal, as the delivery names it."`
},
) (*one[webhook.Delivery], error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	v, err := s.Webhooks.Retry(ctx, in.Tenant, in.Webhook, in.Event, m)
	return tagged(v, 0, err)
}
