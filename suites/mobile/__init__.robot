*** Settings ***
Documentation     A site on the road: slow, asymmetric, and gone for seconds at each handover.

Resource          ../resources/session.resource

Suite Setup       Prepare Sites
Suite Teardown    Release Sites
Test Teardown     Restore And Audit
Test Timeout      5 minutes
