"""T42: the chart broken in many ways, each of which the rows must notice."""

import shutil
import tempfile

import rendering as r

# File, what is there, what is put there.
MUTATIONS = [
    ("templates/_pod.tpl", "      restartPolicy: Always\n", ""),
    ("templates/_pod.tpl", "terminationGracePeriodSeconds: {{ include \"laggard.grace\" . }}", "terminationGracePeriodSeconds: 30"),
    ("templates/_pod.tpl", "automountServiceAccountToken: {{ .Values.serviceAccount.automount }}", "automountServiceAccountToken: true"),
    ("templates/statefulset.yaml", "-headless", ""),
    ("templates/statefulset.yaml", "{{- if not .Values.autoscaling.enabled }}", "{{- if true }}"),
    ("templates/statefulset.yaml", "podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady"),
    ("templates/service-headless.yaml", "clusterIP: None", "type: ClusterIP"),
    ("templates/service.yaml", "targetPort: {{ $name }}", "targetPort: {{ int64 $port.servicePort }}"),
    ("templates/_validate.tpl", "(gt $most 1)", "(gt $most 10)"),
    ("templates/_validate.tpl", "(lt $grace $needed)", "(lt $grace 10)"),
    ("templates/_helpers.tpl", "trunc 50", "trunc 63"),
    ("templates/_helpers.tpl", "app.kubernetes.io/component: {{", "helm.sh/chart: {{"),
    ("templates/networkpolicy.yaml", "        - port: admin\n", "        - port: metrics\n"),
    ("templates/pdb.yaml", "maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}", "maxUnavailable: 1\n  minAvailable: 1"),
    ("templates/servicemonitor.yaml", "port: admin", "port: metrics"),
    ("templates/prometheusrule.yaml", "expr: {{ $rule.expr | quote }}", "expression: {{ $rule.expr | quote }}"),
    ("templates/configmap-dashboards.yaml", "$.Files.Get $path", "$.Files.Get \"none\""),
    ("templates/hpa.yaml", "kind: StatefulSet", "kind: Deployment"),
    ("templates/NOTES.txt", "{{ $name }}.{{ $namespace }}:", "{{ $name }}:"),
    ("alerts.yaml", "laggard_queued_spans > 0", "laggard_waiting_spans > 0"),
    ("../laggard-lib/templates/_container.tpl", "readOnly: true", "readOnly: false"),
    ("../laggard-lib/templates/_container.tpl", "secretKeyRef", "configMapKeyRef"),
    ("../laggard-lib/templates/_config.tpl", "\"baseline\" (dict \"snapshot_file\" \"/var/lib/laggard/learned\")", "\"baseline\" (dict \"snapshot\" \"/var/lib/laggard/learned\")"),
    ("../laggard-lib/templates/_config.tpl", "$step := ternary 1024.0 1000.0", "$step := ternary 1000.0 1000.0"),
    ("../laggard-lib/templates/_defaults.tpl", "failureThreshold: 60", "failureThreshold: 6"),
]  # fmt: skip


def survivors(make_context, rows):
    """The mutations that no row noticed."""
    found = []
    for file, before, after in MUTATIONS:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(r.ROOT / "helm", f"{folder}/helm", symlinks=True)
            chart, library = r.pathlib.Path(folder) / "helm/laggard", r.pathlib.Path(folder) / "helm/laggard-lib"
            target = chart / file
            text = target.read_text()
            assert before in text, f"{file} has no {before!r} any more"
            target.write_text(text.replace(before, after))
            kept = r.LIBRARY, r.CONSUMER
            r.LIBRARY, r.CONSUMER = library, library.parent / "examples/collector-with-laggard"
            try:
                if not any(fails(function, make_context(chart)) for function in rows):
                    found.append(f"{file}: {before.strip()} -> {after.strip()}")
            finally:
                r.LIBRARY, r.CONSUMER = kept
    return found


def fails(function, context):
    # A row that breaks over a broken chart has noticed it too.
    try:
        function(context)
    except Exception:
        return True
    return False
