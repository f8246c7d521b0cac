// Package manifest decodes the manifests of the recipes as Kubernetes does, strictly. It
// is a module of its own: nobody who uses adamant needs Kubernetes' types.
package manifest

import (
	"bytes"
	"os"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestSidecar(t *testing.T) {
	b, err := os.ReadFile("../../recipes/kubernetes/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(b, []byte("\n---\n"))
	if len(documents) != 2 {
		t.Fatalf("%d documents", len(documents))
	}
	var files corev1.ConfigMap
	if err := yaml.UnmarshalStrict(documents[0], &files); err != nil {
		t.Fatal(err)
	}
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict(documents[1], &d); err != nil {
		t.Fatal(err)
	}
	pod := d.Spec.Template.Spec
	for k, v := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[k] != v {
			t.Errorf("the selector wants %s=%s, which the pod has not", k, v)
		}
	}
	volumes := make(map[string]corev1.Volume)
	for _, v := range pod.Volumes {
		volumes[v.Name] = v
	}
	if from := volumes["adamant"].ConfigMap; from == nil || from.Name != files.Name {
		t.Errorf("the gateway's configuration is not that of %s", files.Name)
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		ports := make(map[string]int32)
		for _, p := range c.Ports {
			ports[p.Name] = p.ContainerPort
		}
		for _, m := range c.VolumeMounts {
			if _, there := volumes[m.Name]; !there {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
		for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if p != nil && p.HTTPGet != nil && ports[p.HTTPGet.Port.StrVal] == 0 {
				t.Errorf("%s is probed at %s, which is none of its ports", c.Name, p.HTTPGet.Port.StrVal)
			}
		}
	}
	last := len(pod.InitContainers) - 1
	sidecar := pod.InitContainers[last]
	if p := sidecar.RestartPolicy; p == nil || *p != corev1.ContainerRestartPolicyAlways {
		t.Error("the gateway is no sidecar: the caller would wait for its end")
	}
	// The kubelet makes an emptyDir with mode 0777, below which the gateway keeps no journal.
	sticky := func(c corev1.Container) bool {
		return len(c.VolumeMounts) == 1 && c.VolumeMounts[0].Name == "journal" &&
			slices.Equal(c.Command, []string{"chmod", "1777", c.VolumeMounts[0].MountPath})
	}
	if volumes["journal"].EmptyDir != nil && !slices.ContainsFunc(pod.InitContainers[:last], sticky) {
		t.Error("the gateway refuses to keep its journal where others could replace it, and does not start")
	}
}
