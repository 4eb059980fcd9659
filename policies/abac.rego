# By attributes of the tenant: what a path takes of the plan and of the
# features that are on. A path that is not listed is open to every plan.
package gatehouse.tenant.abac

# First segment of the path -> what it takes.
needs := {
	"mix": {"feature": "ai_mixing", "plans": {"pro", "enterprise"}},
	"export": {"plans": {"pro", "enterprise"}},
	"share": {"feature": "collaboration"},
}

need := object.get(needs, input.request.segments[0], {})

default allow := false

allow if {
	by_plan
	by_feature
}

by_plan if not need.plans

by_plan if input.plan in need.plans

by_feature if not need.feature

by_feature if input.features[need.feature]

reason := "the plan does not include this" if {
	not by_plan
} else := "this feature is off" if {
	not by_feature
}

public if not allow
