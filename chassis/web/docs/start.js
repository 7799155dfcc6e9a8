// A file of its own, because the page's policy runs no script that stands in the page.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: "none", // else Swagger UI shows the document to validator.swagger.io
});
