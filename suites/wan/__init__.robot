*** Settings ***
Documentation     The same convergence when the WAN is bad.

Resource          ../resources/session.resource

Suite Setup       Prepare Sites
Suite Teardown    Release Sites
Test Teardown     Restore And Audit
Test Timeout      5 minutes
