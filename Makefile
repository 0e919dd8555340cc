.PHONY: test-ansible
test-ansible: ## The Ansible collection on ten hosts made of namespaces (needs root)
	tests/ansible/run
